//! What the scripts are given, and what they reply. Little-endian, as the head of each script says.

use std::time::Duration;

/// 2026-01-01T00:00:00Z in seconds since 1970, from which the scripts count.
const EPOCH: i64 = 1_767_225_600;

/// The version of the scripts that read and write values, of their replies and of the values.
pub(super) const VERSION: u8 = 2;

/// The version of the script that counts gateways.
const NODES_VERSION: u8 = 1;

/// Seconds since 1970 as the scripts count them. The scripts hold ends of periods in 32 bits; what ends later counts as ending then.
pub(super) fn seconds(unix: i64) -> f64 {
    (unix - EPOCH).clamp(0, i64::from(u32::MAX)) as f64
}

/// Nanoseconds since 1970 of a time of the scripts.
pub(super) fn unix_nanos(micros: f64) -> i128 {
    i128::from(EPOCH) * 1_000_000_000 + (micros * 1_000.0) as i128
}

/// A span in the unit of the scripts.
pub(super) fn micros(nanos: i64) -> f64 {
    nanos as f64 / 1_000.0
}

/// A span of the scripts in nanoseconds.
pub(super) fn nanos(micros: f64) -> i64 {
    (micros * 1_000.0).round() as i64
}

/// Who asks: the gateway, and which of its connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker {
    /// Of 48 bits; another one at each start.
    pub(super) node: u64,
    /// Of 24 bits.
    pub(super) session: u32,
}

impl Asker {
    fn write(self, bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(&self.node.to_le_bytes()[..6]);
        bytes.extend_from_slice(&self.session.to_le_bytes()[..3]);
    }
}

/// One count that an admission asks of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Ask {
    /// The position of the subject's key, from 1.
    pub(super) key: u8,
    /// The position of the limit in the request's list.
    pub(super) limit: u16,
    /// Whether the limit only counts.
    pub(super) counts_only: bool,
    pub(super) tag: u32,
    pub(super) what: What,
}

/// What is asked of a count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum What {
    Clock { time: f64, tolerance: f64 },
    Period { units: f64, quantity: f64, end: f64, seen: f64, born: f64 },
    InFlight { most: f64, held: f64 },
}

impl What {
    const fn kind(&self) -> u8 {
        match self {
            Self::Clock { .. } => 1,
            Self::Period { .. } => 2,
            Self::InFlight { .. } => 3,
        }
    }

    fn write(&self, bytes: &mut Vec<u8>) {
        let numbers = match *self {
            Self::Clock { time, tolerance } => &[time, tolerance][..],
            Self::Period { units, quantity, end, seen, born } => &[units, quantity, end, seen, born],
            Self::InFlight { most, held } => &[most, held],
        };
        numbers.iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    }

    /// The form of what is asked, and of the reply, in the letters of Lua's `struct`.
    const fn forms(&self) -> (&'static str, &'static str) {
        match self {
            Self::Clock { .. } | Self::InFlight { .. } => ("BI2BI4dd", "d"),
            Self::Period { .. } => ("BI2BI4ddddd", "ddd"),
        }
    }
}

/// The arguments of `admit.lua`. `numbers` are those of the admission, one for each key.
pub(super) fn admission(asker: Asker, numbers: &[u32], asks: &[Ask]) -> Vec<Vec<u8>> {
    // Nothing grows: that would copy it several times.
    let mut bytes = Vec::with_capacity(11 + 4 * numbers.len() + 48 * asks.len());
    let mut form = String::with_capacity(7 + 2 * numbers.len() + 11 * asks.len());
    let mut reply = String::with_capacity(8 + 3 * asks.len());
    form.push_str("<I6I3I2");
    reply.push_str("<BBBI2dd");
    asker.write(&mut bytes);
    bytes.extend_from_slice(&u16::try_from(asks.len()).unwrap_or(u16::MAX).to_le_bytes());
    for number in numbers {
        bytes.extend_from_slice(&number.to_le_bytes());
        form.push_str("I4");
    }
    for ask in asks {
        bytes.push(ask.key);
        bytes.extend_from_slice(&ask.limit.to_le_bytes());
        bytes.push(ask.what.kind() + if ask.counts_only { 16 } else { 0 });
        bytes.extend_from_slice(&ask.tag.to_le_bytes());
        ask.what.write(&mut bytes);
        let (asked, replied) = ask.what.forms();
        form.push_str(asked);
        reply.push_str(replied);
    }
    vec![bytes, form.into_bytes(), reply.into_bytes()]
}

/// What `admit.lua` replies.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct AdmissionReply {
    pub(super) verdict: ScriptVerdict,
    /// Values that could not be read, and were taken for absent.
    pub(super) unreadable: u8,
    /// The server's time.
    pub(super) now: f64,
    /// One for each ask.
    pub(super) states: Vec<AskState>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ScriptVerdict {
    Admitted,
    /// The position of the ask that refused, and the time until it may admit; `None`: unknown.
    Refused(usize, Option<Duration>),
    /// A later connection of this gateway was here.
    Outdated,
}

/// The state of a count after an admission.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct AskState {
    /// The limit only counts, and would have refused.
    pub(super) would_refuse: bool,
    /// It would have because of this count.
    pub(super) is_why: bool,
    /// The theoretical arrival time, the sum of a period, or the requests in flight.
    pub(super) value: f64,
    /// When the value of the subject was born, for a period.
    pub(super) born: f64,
    /// The units that were taken, for a period.
    pub(super) taken: f64,
}

impl AdmissionReply {
    /// Reads the reply to `asks`. `None`: it is not one of this version.
    pub(super) fn read(bytes: &[u8], asks: &[Ask]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.byte()? != VERSION {
            return None;
        }
        let verdict = reader.byte()?;
        let unreadable = reader.byte()?;
        let refused = usize::from(reader.short()?);
        let (wait, now) = (reader.number()?, reader.number()?);
        let verdict = match verdict {
            1 => ScriptVerdict::Admitted,
            0 => ScriptVerdict::Refused(
                refused.checked_sub(1)?,
                // Rounded up: a client that waits so long is not refused again.
                (wait >= 0.0).then(|| Duration::from_nanos((wait * 1_000.0).ceil() as u64)),
            ),
            _ => return Some(Self { verdict: ScriptVerdict::Outdated, unreadable, now, states: Vec::new() }),
        };
        let states: Option<Vec<AskState>> = asks.iter().map(|ask| AskState::read(&mut reader, ask)).collect();
        let mut states = states?;
        if !reader.0.is_empty() {
            for state in &mut states {
                let flag = reader.byte()?;
                (state.would_refuse, state.is_why) = (flag != 0, flag == 2);
            }
        }
        Some(Self { verdict, unreadable, now, states })
    }
}

impl AskState {
    fn read(reader: &mut Reader<'_>, ask: &Ask) -> Option<Self> {
        let value = reader.number()?;
        let (born, taken) = match ask.what {
            What::Period { .. } => (reader.number()?, reader.number()?),
            _ => (0.0, 0.0),
        };
        Some(Self { would_refuse: false, is_why: false, value, born, taken })
    }
}

/// One change that `apply.lua` makes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Change {
    /// The position of the subject's key, from 1.
    pub(super) key: u16,
    pub(super) tag: u32,
    pub(super) what: ChangeKind,
    /// Whether it is made only if the last [`ChangeKind::Cancelled`] before it was executed.
    pub(super) is_conditional: bool,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum ChangeKind {
    /// A clock moves.
    Clock { time: f64 },
    /// Units more or less in a period.
    Period { units: f64, end: f64 },
    /// Requests have ended, less those that have begun.
    Ended { count: f64 },
    /// So many requests are in flight, as far as is known of admissions up to this number.
    InFlight { fewest: f64, most: f64, number: u32 },
    /// A period that may have lost what it had counted.
    Restore { seen: f64, end: f64, born: f64 },
    /// The admission with this number has no effect.
    Cancelled { number: u32 },
}

impl ChangeKind {
    const fn kind(&self) -> u8 {
        match self {
            Self::Clock { .. } => 1,
            Self::Period { .. } => 2,
            Self::Ended { .. } => 3,
            Self::InFlight { .. } => 4,
            Self::Restore { .. } => 6,
            Self::Cancelled { .. } => 7,
        }
    }

    fn numbers(&self) -> [f64; 3] {
        match *self {
            Self::Clock { time } => [time, 0.0, 0.0],
            Self::Period { units, end } => [units, end, 0.0],
            Self::Ended { count } => [count, 0.0, 0.0],
            Self::InFlight { fewest, most, number } => [fewest, most, f64::from(number)],
            Self::Restore { seen, end, born } => [seen, end, born],
            Self::Cancelled { number } => [f64::from(number), 0.0, 0.0],
        }
    }
}

/// The argument of `apply.lua`. Batch 0 is one that may be applied twice.
pub(super) fn changes(asker: Asker, batch: u64, changes: &[Change]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(19 + 31 * changes.len());
    asker.write(&mut bytes);
    bytes.extend_from_slice(&(batch as f64).to_le_bytes());
    bytes.extend_from_slice(&u16::try_from(changes.len()).unwrap_or(u16::MAX).to_le_bytes());
    for change in changes {
        bytes.extend_from_slice(&change.key.to_le_bytes());
        bytes.push(change.what.kind() + if change.is_conditional { 16 } else { 0 });
        bytes.extend_from_slice(&change.tag.to_le_bytes());
        change.what.numbers().iter().for_each(|number| bytes.extend_from_slice(&number.to_le_bytes()));
    }
    bytes
}

/// What `apply.lua` replies.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ChangesReply {
    /// Values that could not be read, and were taken for absent.
    pub(super) unreadable: u8,
    pub(super) now: f64,
    /// One for each change: the arrival time; the sum of a period, or -1 if it is over, and when the value was born; the requests in flight.
    pub(super) states: Vec<(f64, f64)>,
}

impl ChangesReply {
    /// Reads a reply. `None`: it is not one of this version.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.byte()? != VERSION {
            return None;
        }
        let _repeated = reader.byte()?;
        let unreadable = reader.byte()?;
        let now = reader.number()?;
        let mut states = Vec::with_capacity(reader.0.len() / 16);
        while !reader.0.is_empty() {
            states.push((reader.number()?, reader.number()?));
        }
        Some(Self { unreadable, now, states })
    }
}

/// What `nodes.lua` replies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NodesReply {
    /// Whether the gateway was known already.
    pub(super) known: bool,
    /// Gateways seen in the last minute.
    pub(super) count: u32,
    pub(super) now: f64,
}

impl NodesReply {
    /// Reads a reply. `None`: it is not one of this version.
    #[expect(clippy::cast_sign_loss, reason = "a count")]
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        if reader.byte()? != NODES_VERSION {
            return None;
        }
        let known = reader.byte()? != 0;
        Some(Self { known, count: reader.number()? as u32, now: reader.number()? })
    }
}

/// What is left to read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn short(&mut self) -> Option<u16> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(u16::from_le_bytes(*first))
    }

    fn number(&mut self) -> Option<f64> {
        let (first, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(f64::from_le_bytes(*first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_of_another_version_or_form_are_none() {
        let clock = What::Clock { time: 1.0, tolerance: 1.0 };
        let ask = [Ask { key: 1, limit: 0, counts_only: false, tag: 1, what: clock }];
        let numbers: Vec<u8> = [1.5_f64, 7.0, 9.0].iter().flat_map(|number| number.to_le_bytes()).collect();
        let whole: Vec<u8> = [&[2, 0, 0, 2, 0][..], &numbers].concat();
        let read = AdmissionReply::read(&whole, &ask).unwrap();
        assert_eq!(read.verdict, ScriptVerdict::Refused(1, Some(Duration::from_nanos(1_500))));
        for length in 0..whole.len() {
            assert_eq!(AdmissionReply::read(&whole[..length], &ask), None, "{length}");
        }
        assert_eq!(AdmissionReply::read(&[1], &ask), None);
        assert_eq!(ChangesReply::read(b"-ERR"), None);
        assert_eq!(NodesReply::read(&[1, 1]), None);
    }
}
