//! Writes the frames that the gateway itself sends.

/// Limit of a control frame's payload in bytes (RFC 6455 §5.5).
pub(super) const MOST_CONTROL: usize = 125;

/// Who sends a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// A server never masks.
    Server,
    /// A client masks every frame, with a key that its peer cannot foresee (RFC 6455 §10.3).
    Client {
        /// The key.
        mask: [u8; 4],
    },
}

/// A close frame with a status code and as much of the reason as has room.
pub fn close(sender: Sender, code: u16, reason: &str) -> Vec<u8> {
    let most = MOST_CONTROL - 2;
    let end = (0..=most.min(reason.len())).rev().find(|at| reason.is_char_boundary(*at)).unwrap_or(0);
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(reason.get(..end).unwrap_or_default().as_bytes());
    frame(sender, 8, &payload)
}

/// A text message in one frame.
pub fn text(sender: Sender, text: &str) -> Vec<u8> {
    frame(sender, 1, text.as_bytes())
}

/// The answer to a ping with this payload.
pub fn pong(sender: Sender, payload: &[u8]) -> Vec<u8> {
    frame(sender, 10, payload)
}

fn frame(sender: Sender, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    let masked = if sender == Sender::Server { 0 } else { 0x80 };
    match (u8::try_from(payload.len()), u16::try_from(payload.len())) {
        (Ok(length @ 0..126), _) => frame.push(masked | length),
        (_, Ok(length)) => {
            frame.push(masked | 126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
        _ => {
            frame.push(masked | 127);
            frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
        }
    }
    let mask = match sender {
        Sender::Server => None,
        Sender::Client { mask } => {
            frame.extend_from_slice(&mask);
            Some(mask)
        }
    };
    let begin = frame.len();
    frame.extend_from_slice(payload);
    super::frame::unmask(frame.get_mut(begin..).unwrap_or_default(), mask, 0);
    frame
}
