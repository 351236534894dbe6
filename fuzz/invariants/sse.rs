//! A slow parser written line by line from WHATWG HTML, section 9.2.6 "Interpreting an event stream", to compare with.

/// An event as it is dispatched: name, data.
pub(super) type Dispatched = (Vec<u8>, Vec<u8>);

/// The events of a whole stream.
pub(super) fn events(stream: &[u8]) -> Vec<Dispatched> {
    parse(stream).0
}

/// Whether the end of `stream` is outside any event.
pub(super) fn at_boundary(stream: &[u8]) -> bool {
    parse(stream).1
}

fn parse(stream: &[u8]) -> (Vec<Dispatched>, bool) {
    let bom = b"\xEF\xBB\xBF";
    if !stream.is_empty() && stream.len() < bom.len() && bom.starts_with(stream) {
        return (Vec::new(), false);
    }
    let (lines, partial) = lines(stream.strip_prefix(bom).unwrap_or(stream));
    let (mut events, mut name, mut data, mut fields) = (Vec::new(), Vec::new(), Vec::new(), false);
    for line in lines {
        if line.is_empty() {
            if data.pop().is_some() {
                events.push((std::mem::take(&mut name), std::mem::take(&mut data)));
            }
            name.clear();
            fields = false;
            continue;
        }
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default();
        let value = value.strip_prefix(b" ").unwrap_or(value);
        match &line[..colon] {
            b"" => continue,
            b"data" => {
                data.extend_from_slice(value);
                data.push(b'\n');
            }
            b"event" => name = value.to_vec(),
            _ => {}
        }
        fields = true;
    }
    (events, !partial && !fields)
}

/// The ended lines, and whether an unended one follows.
fn lines(stream: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let (mut lines, mut line, mut at) = (Vec::new(), Vec::new(), 0);
    while at < stream.len() {
        match stream[at] {
            b'\n' => lines.push(std::mem::take(&mut line)),
            b'\r' => {
                lines.push(std::mem::take(&mut line));
                at += usize::from(stream.get(at + 1) == Some(&b'\n'));
            }
            byte => line.push(byte),
        }
        at += 1;
    }
    (lines, !line.is_empty())
}
