//! The facts of a multipart form against a reader that takes what it can get.
//!
//! - Nothing panics, and a boundary is one that RFC 2046 allows.
//! - Where a form has facts, the lenient reader finds at most one field `model` in it, and the same text there.
//! - With another model the form has that one, and all other fields as they were; every byte before and behind the replaced one is the same.
//! - In whatever pieces a form arrives, it has the same facts, or the same error. So has one whose `session` names the model.
//! - No message holds anything of the body.
//!
//! Input: the `content-type` to the first LF, then the body.

use sluicegate::openai::{EditPoints, Facts, FactsError, FormReader, MODEL_LIMIT, Splices, boundary};

const OTHER: &str = "another-model";

/// A field's name, as far as the lenient reader sees one, and its content.
type Field<'b> = (Vec<u8>, &'b [u8]);

pub fn check(data: &[u8]) {
    let end = memchr::memchr(b'\n', data).unwrap_or(data.len());
    let (kind, body) = (&data[..end], data.get(end + 1..).unwrap_or_default());
    let Some(boundary) = std::str::from_utf8(kind).ok().and_then(boundary) else { return };
    assert!((1..=70).contains(&boundary.len()), "{boundary}");
    in_pieces(body, boundary);
    let facts = match Facts::read_form(body, boundary) {
        Ok(facts) => facts,
        Err(error) => return assert!(!format!("{error} {error:?}").contains("Zx81yBq7")),
    };
    let EditPoints::Form(points) = &facts.edit_points else {
        return assert_eq!(facts.model, None);
    };
    let fields = fields(body, boundary);
    let models: Vec<&[u8]> = models(&fields);
    assert_eq!(points.model.as_ref().map(|range| &body[range.clone()]), models.first().copied());
    assert!(models.len() <= 1, "{models:?}");
    let model = facts.model.as_deref().unwrap_or_default();
    assert_eq!(model.as_bytes(), models.first().copied().unwrap_or_default());
    assert!(model.len() <= MODEL_LIMIT);
    with_another_model(body, boundary, &facts);
}

fn with_another_model(body: &[u8], boundary: &str, facts: &Facts) {
    let mut splices = Splices::new();
    if splices.set_model(&facts.edit_points, OTHER).is_err() {
        return;
    }
    let edited = splices.apply(body).expect("the edit is inside of the form");
    assert_eq!(edited.len(), splices.edited_length(body.len()));
    only_one_piece_differs(body, &edited, facts);
    let read = Facts::read_form(&edited, boundary).expect("still sound");
    assert_eq!(read.model.as_deref(), Some(OTHER));
    let (before, after) = (fields(body, boundary), fields(&edited, boundary));
    let others = |fields: &[Field<'_>]| -> Vec<(Vec<u8>, Vec<u8>)> {
        let others = fields.iter().filter(|(name, _)| name != b"model");
        others.map(|(name, content)| (name.clone(), content.to_vec())).collect()
    };
    assert_eq!(others(&before), others(&after));
}

/// What comes before the model, or before the first delimiter if there is none, and what follows.
fn only_one_piece_differs(body: &[u8], edited: &[u8], facts: &Facts) {
    let EditPoints::Form(points) = &facts.edit_points else { return };
    let range = points.model.clone().unwrap_or(points.first..points.first);
    assert_eq!(edited[..range.start], body[..range.start]);
    assert!(edited[range.start..].ends_with(&body[range.end..]));
}

/// The first bytes of the body are the sizes of the pieces.
fn in_pieces(body: &[u8], boundary: &str) {
    let said = |read: Result<Facts, FactsError>| read.map_err(|error| error.to_string());
    let readers: [fn(&str) -> FormReader; 2] = [FormReader::new, FormReader::of_session];
    for new in readers {
        let mut whole = new(boundary);
        whole.feed(body);
        let whole = said(whole.finish());
        for sizes in [&[1][..], &body[..body.len().min(7)]] {
            let mut sizes = sizes.iter().cycle().map(|size| usize::from(*size).max(1));
            let (mut reader, mut rest) = (new(boundary), body);
            while let Some(size) = sizes.next().filter(|_| !rest.is_empty()) {
                let (piece, behind) = rest.split_at(size.min(rest.len()));
                reader.feed(piece);
                rest = behind;
            }
            assert_eq!(said(reader.finish()), whole);
        }
    }
}

fn models<'b>(fields: &[Field<'b>]) -> Vec<&'b [u8]> {
    fields.iter().filter(|(name, _)| name == b"model").map(|(_, content)| *content).collect()
}

/// All parts between delimiters at the beginning of lines, up to the last one.
fn fields<'b>(body: &'b [u8], boundary: &str) -> Vec<Field<'b>> {
    let delimiter = format!("--{boundary}");
    let mut fields = Vec::new();
    let mut begun: Option<usize> = None;
    for at in memchr::memmem::find_iter(body, delimiter.as_bytes()) {
        if at > 0 && body[at - 1] != b'\n' {
            continue;
        }
        if let Some(begun) = begun
            && let Some(part) = body.get(begun..at.saturating_sub(2))
            && let Some(head) = memchr::memmem::find(part, b"\r\n\r\n")
        {
            fields.push((name(&part[..head]), &part[head + 4..]));
        }
        let behind = at + delimiter.len();
        if body[behind..].starts_with(b"--") {
            break;
        }
        begun = memchr::memchr(b'\n', &body[behind..]).map(|line| behind + line + 1);
    }
    fields
}

/// What follows the first `name=` that is a parameter, without quotes.
fn name(head: &[u8]) -> Vec<u8> {
    let lower = head.to_ascii_lowercase();
    let found = memchr::memmem::find_iter(&lower, b"name=").find(|at| {
        let before = at.checked_sub(1).map(|before| lower[before]);
        before.is_some_and(|byte| matches!(byte, b' ' | b';' | b'\t'))
    });
    let Some(at) = found else { return Vec::new() };
    let value = &head[at + 5..];
    let value = value.strip_prefix(b"\"").unwrap_or(value);
    let end = value.iter().position(|byte| matches!(byte, b'"' | b';' | b'\r')).unwrap_or(value.len());
    value[..end].trim_ascii().to_vec()
}
