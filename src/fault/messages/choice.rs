//! Which language a client gets: `accept-language`.

use http::{HeaderMap, HeaderValue, header};

use super::Language;

/// As much of `accept-language` as is read, in bytes. Browsers send less than a tenth of it.
const MOST_BYTES: usize = 1024;

/// As many ranges of `accept-language` as are read.
const MOST_RANGES: usize = 32;

/// The weight of a range without one, in thousandths (RFC 9110 §12.4.2).
const FULL_WEIGHT: u16 = 1000;

/// The languages of which a client may choose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Languages {
    /// For clients that want none of them.
    default: Language,
    /// A bit for each, the default among them.
    set: u64,
}

/// Which languages a client may get, and what it asks for.
#[derive(Debug, Clone, Default)]
pub struct LanguageChoice {
    /// Of which it may choose.
    pub languages: Languages,
    /// Its `accept-language`; only where there is a choice.
    accepted: Option<Box<HeaderValue>>,
}

/// English alone.
impl Default for Languages {
    fn default() -> Self {
        Self::of(Language::EN)
    }
}

impl Languages {
    /// This language alone, which is also the default.
    pub fn of(default: Language) -> Self {
        Self { default, set: bit(default) }
    }

    /// The same with another language.
    #[must_use]
    pub fn and(self, language: Language) -> Self {
        Self { set: self.set | bit(language), ..self }
    }

    /// The language for clients that ask for none of these.
    pub fn default_language(self) -> Language {
        self.default
    }

    /// Whether there is more than one.
    pub fn is_choice(self) -> bool {
        self.set.count_ones() > 1
    }

    /// The languages, the default first.
    pub fn iter(self) -> impl Iterator<Item = Language> {
        let others = Language::all().filter(move |language| *language != self.default);
        std::iter::once(self.default).chain(others.filter(move |language| self.set & bit(*language) != 0))
    }

    /// The language for a client with this `accept-language` (RFC 9110 §12.5.4), found by lookup (RFC 4647 §3.4): of the ranges, the one with the
    /// highest weight first, each is shortened until a language is meant by it, so that `zh-TW` finds `zh`. `*` is the default language. A range
    /// with weight 0 excludes the languages below it. What cannot be read is skipped.
    pub fn lookup(self, accepted: &[u8]) -> Language {
        let accepted = accepted.get(..MOST_BYTES).unwrap_or(accepted);
        let elements = accepted.split(|byte| *byte == b',').take(MOST_RANGES);
        let mut ranges: Vec<Range<'_>> = elements.filter_map(Range::read).collect();
        // Ranges of one weight stay in the client's order.
        ranges.sort_by_key(|range| std::cmp::Reverse(range.weight));
        let refused = |language: Language| ranges.iter().any(|range| range.refuses(language));
        let wanted = ranges.iter().filter(|range| range.weight > 0);
        let found = wanted.filter_map(|range| {
            range.shortened().find_map(|tag| {
                self.iter().find(|language| (tag == "*" || language.is_meant_by(tag)) && !refused(*language))
            })
        });
        found.into_iter().next().unwrap_or(self.default)
    }
}

impl LanguageChoice {
    /// The choice among `languages` of a client with these headers. They are read only where there may be a choice.
    pub fn read(languages: Languages, may_choose: bool, headers: &HeaderMap) -> Self {
        let accepted = if may_choose { accepted(headers) } else { None };
        Self { languages, accepted }
    }

    /// The language for the client.
    pub fn language(&self) -> Language {
        match &self.accepted {
            Some(accepted) => self.languages.lookup(accepted.as_bytes()),
            None => self.languages.default,
        }
    }
}

/// One element of `accept-language`.
#[derive(Debug)]
struct Range<'a> {
    tag: &'a str,
    /// In thousandths.
    weight: u16,
}

impl<'a> Range<'a> {
    fn read(element: &'a [u8]) -> Option<Self> {
        let element = std::str::from_utf8(element).ok()?;
        let mut parts = element.split(';').map(str::trim);
        let tag = parts.next().filter(|tag| is_range(tag))?;
        let weight = match parts.next() {
            None => FULL_WEIGHT,
            Some(parameter) => weight(parameter)?,
        };
        Some(Self { tag, weight })
    }

    /// The range, and each range that it becomes without its last subtag. A subtag of one character goes with the one behind it.
    fn shortened(&self) -> impl Iterator<Item = &'a str> {
        std::iter::successors(Some(self.tag), |tag| {
            let (shorter, _) = tag.rsplit_once('-')?;
            let is_single = |(_, last): &(&str, &str)| last.len() == 1;
            Some(shorter.rsplit_once('-').filter(is_single).map_or(shorter, |(before, _)| before))
        })
    }

    /// Whether the range excludes the language: it has weight 0, and the language's tag is the range or begins with it.
    fn refuses(&self, language: Language) -> bool {
        let tag = language.tag();
        let begins = tag.get(..self.tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(self.tag));
        self.weight == 0 && begins && matches!(tag.as_bytes().get(self.tag.len()), None | Some(b'-'))
    }
}

/// RFC 4647 §2.1
fn is_range(tag: &str) -> bool {
    let is_subtag = |subtag: &str| {
        (1..=8).contains(&subtag.len()) && subtag.bytes().all(|byte| byte.is_ascii_alphanumeric())
    };
    tag == "*" || tag.split('-').all(is_subtag)
}

/// The weight in `q=0.8`, in thousandths (RFC 9110 §12.4.2).
fn weight(parameter: &str) -> Option<u16> {
    let (name, value) = parameter.split_once('=')?;
    if !name.trim_end().eq_ignore_ascii_case("q") {
        return None;
    }
    let (whole, fraction) = value.trim().split_once('.').unwrap_or((value.trim(), ""));
    let is_sound = fraction.len() <= 3 && fraction.bytes().all(|byte| byte.is_ascii_digit());
    match whole {
        "1" if is_sound && fraction.bytes().all(|byte| byte == b'0') => Some(FULL_WEIGHT),
        "0" if is_sound => format!("{fraction:0<3}").parse().ok(),
        _ => None,
    }
}

/// `accept-language` as one value. Several lines are one list (RFC 9110 §5.3).
fn accepted(headers: &HeaderMap) -> Option<Box<HeaderValue>> {
    let mut values = headers.get_all(header::ACCEPT_LANGUAGE).iter();
    let first = values.next()?;
    let Some(second) = values.next() else { return Some(Box::new(first.clone())) };
    let lines: Vec<&[u8]> =
        [first, second].into_iter().chain(values).take(MOST_RANGES).map(HeaderValue::as_bytes).collect();
    HeaderValue::from_bytes(&lines.join(&b","[..])).ok().map(Box::new)
}

fn bit(language: Language) -> u64 {
    1 << (language.index() % Language::MOST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn both() -> Languages {
        Languages::of(Language::EN).and(Language::named("zh").unwrap())
    }

    #[test]
    fn what_browsers_and_programs_send() {
        for (accepted, tag) in [
            // Chrome, Edge.
            ("zh-CN,zh;q=0.9", "zh"),
            ("zh-CN,zh;q=0.9,en;q=0.8,en-GB;q=0.7,en-US;q=0.6", "zh"),
            ("en-US,en;q=0.9,zh-CN;q=0.8,zh;q=0.7", "en"),
            ("zh-TW,zh;q=0.9,en-US;q=0.8,en;q=0.7", "zh"),
            ("de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7", "en"),
            ("ja,zh-CN;q=0.9,en;q=0.8", "zh"),
            // Firefox.
            ("zh-CN,zh;q=0.8,zh-TW;q=0.7,zh-HK;q=0.5,en-US;q=0.3,en;q=0.2", "zh"),
            ("en-US,en;q=0.5", "en"),
            // Safari.
            ("zh-Hans-CN;q=1.0, en-US;q=0.9", "zh"),
            ("zh-cn", "zh"),
            // fetch of Node.
            ("*", "en"),
            // curl -H 'accept-language: zh'
            ("zh", "zh"),
            ("zh_CN", "en"),
            ("zh_CN.UTF-8", "en"),
            ("", "en"),
        ] {
            assert_eq!(both().lookup(accepted.as_bytes()).tag(), tag, "{accepted}");
        }
    }

    #[test]
    fn weights_decide_before_the_order() {
        for (accepted, tag) in [
            ("en;q=0.5, zh", "zh"),
            ("en;q=0.500,zh;q=0.501", "zh"),
            ("en;q=0.5,zh;q=0.5", "en"),
            ("zh;q=0.5,en;q=0.5", "zh"),
            ("fr, *;q=0.1", "en"),
            ("en;q=0, *", "zh"),
            ("en;q=0", "en"),
            ("zh-TW;q=0, zh", "zh"),
            ("zh;q=0, zh-TW, en;q=0.1", "en"),
            ("ZH-hant-tw;Q=1.000", "zh"),
            ("zh-x-private-y", "zh"),
            ("zh-a-b", "zh"),
        ] {
            assert_eq!(both().lookup(accepted.as_bytes()).tag(), tag, "{accepted}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_skipped_and_nothing_fails() {
        let long = "xx,".repeat(5_000) + "zh";
        for (accepted, tag) in [
            ("zh;q=2, en", "en"),
            ("zh;q=0.1234", "en"),
            ("zh;q=-1,zh;q=nan,zh;q=1.1,zh;q=.5", "en"),
            ("zh;level=1", "en"),
            (",,;;,=,q=1,-,zh-,-zh,zh--cn", "en"),
            ("\u{ff1a}zh, zh", "zh"),
            ("\0, zh", "zh"),
            (&*long, "en"),
        ] {
            assert_eq!(both().lookup(accepted.as_bytes()).tag(), tag, "{accepted:?}");
        }
        assert_eq!(both().lookup(b"\xff\xfe, zh").tag(), "zh");
    }

    #[test]
    fn only_configured_languages_are_found() {
        assert_eq!(Languages::default().lookup(b"zh").tag(), "en");
        let chinese = Languages::of(Language::named("ZH").unwrap());
        assert_eq!(chinese.lookup(b"en").tag(), "zh");
        assert!(!chinese.is_choice() && both().is_choice());
        assert_eq!(both().iter().map(Language::tag).collect::<Vec<_>>(), ["en", "zh"]);
        assert_eq!(chinese.and(Language::EN).iter().map(Language::tag).collect::<Vec<_>>(), ["zh", "en"]);
    }

    #[test]
    fn several_lines_are_one_list() {
        let mut headers = HeaderMap::new();
        headers.append(header::ACCEPT_LANGUAGE, HeaderValue::from_static("fr"));
        headers.append(header::ACCEPT_LANGUAGE, HeaderValue::from_static("zh;q=0.5"));
        assert_eq!(LanguageChoice::read(both(), true, &headers).language().tag(), "zh");
        assert_eq!(LanguageChoice::read(both(), false, &headers).language().tag(), "en");
        assert_eq!(LanguageChoice::read(both(), true, &HeaderMap::new()).language().tag(), "en");
    }

    proptest! {
        #[test]
        fn any_header_finds_a_configured_language(accepted in any::<Vec<u8>>(), text in "[a-zA-Z0-9*,;=.q -]{0,1200}") {
            for accepted in [&accepted[..], text.as_bytes()] {
                let found = both().lookup(accepted);
                prop_assert!(both().iter().any(|language| language == found));
            }
        }
    }
}
