//! As much of Rust as it takes to find paths in a file.

/// A file's code, without comments and without what is compiled for tests alone.
pub struct Source {
    /// String and character literals are blank.
    code: String,
    /// They are not.
    text: String,
}

impl Source {
    pub fn of(text: &str) -> Self {
        let bytes = text.as_bytes();
        let (mut code, mut text) = (bytes.to_vec(), bytes.to_vec());
        let mut at = 0;
        while at < bytes.len() {
            let (end, kind) = token(bytes, at);
            if kind != Kind::Code {
                blank(&mut code, at, end);
            }
            if kind == Kind::Comment {
                blank(&mut text, at, end);
            }
            at = end;
        }
        let blanked = String::from_utf8_lossy(&code).into_owned();
        for (start, end) in test_items(&blanked) {
            blank(&mut code, start, end);
            blank(&mut text, start, end);
        }
        let lossy = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self { code: lossy(code), text: lossy(text) }
    }

    /// All paths that begin with `root::`, without it: groups taken apart, `as` left out.
    pub fn paths(&self, root: &str) -> Vec<String> {
        let mut paths = Vec::new();
        for (at, _) in self.code.match_indices(root) {
            let before = self.code[..at].chars().next_back();
            let rest = self.code[at + root.len()..].trim_start();
            if before.is_some_and(is_name) || !rest.starts_with("::") {
                continue;
            }
            expand(rest, String::new(), &mut paths);
        }
        paths
    }

    /// Every name that a `use` brings in or re-exports.
    pub fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        for (start, end) in self.use_statements() {
            let visibility = self.code[..start].trim_end();
            let public = visibility.ends_with("pub") || visibility.ends_with(')');
            expand_use(&self.code[start + "use".len()..end - 1], "", public, &mut uses);
        }
        uses
    }

    /// All paths outside `use` that begin with the name `root`, which is part of them.
    pub fn paths_from(&self, root: &str) -> Vec<String> {
        let code = self.without_uses();
        let mut paths = Vec::new();
        for at in words(&code, root) {
            let rest = code[at + root.len()..].trim_start();
            let before = code[..at].trim_end();
            // `pub(in path)` names who may see an item, and imports nothing.
            if before.ends_with("::") || before.ends_with("(in") || !rest.starts_with("::") {
                continue;
            }
            expand(rest, root.to_owned(), &mut paths);
        }
        paths
    }

    /// Whether `name` occurs as a word outside `use`.
    pub fn names_outside_uses(&self, name: &str) -> bool {
        !words(&self.without_uses(), name).is_empty()
    }

    /// Whether an item of this name is defined here.
    pub fn defines(&self, name: &str) -> bool {
        const KINDS: [&str; 8] = ["struct", "enum", "union", "trait", "type", "fn", "const", "static"];
        words(&self.code, name).into_iter().any(|at| {
            let before = self.code[..at].trim_end();
            KINDS.iter().any(|kind| {
                before.strip_suffix(kind).is_some_and(|rest| !rest.chars().next_back().is_some_and(is_name))
            })
        })
    }

    /// The types that have an inherent `impl` block here, as they are named there, once for each block.
    pub fn inherent_impls(&self) -> Vec<String> {
        let mut types = Vec::new();
        for at in words(&self.code, "impl") {
            let before = self.code[..at].trim_end();
            let item = before.is_empty() || before.ends_with(['}', ';', '{', ']']);
            if let Some(name) = item.then(|| inherent(&self.code[at + "impl".len()..])).flatten() {
                types.push(name);
            }
        }
        types
    }

    fn without_uses(&self) -> String {
        let mut code = self.code.clone().into_bytes();
        for (start, end) in self.use_statements() {
            blank(&mut code, start, end);
        }
        String::from_utf8_lossy(&code).into_owned()
    }

    /// Where `use …;` begins and ends, without its visibility.
    fn use_statements(&self) -> Vec<(usize, usize)> {
        let statement = |at: usize| {
            let before = self.code[..at].trim_end();
            // `impl Trait + use<'a>` is no import.
            let begins =
                before.is_empty() || before.ends_with(['}', ';', '{', ']', ')']) || before.ends_with("pub");
            let end = self.code[at..].find(';')?;
            begins.then_some((at, at + end + 1))
        };
        words(&self.code, "use").into_iter().filter_map(statement).collect()
    }

    /// The longest chain of `super::`.
    pub fn most_supers(&self) -> usize {
        let packed: String = self
            .code
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .replace(" ::", "::")
            .replace(":: ", "::");
        let chain = |(at, _): (usize, &str)| {
            let mut rest = &packed[at..];
            let mut length = 0;
            while let Some(more) = rest.strip_prefix("super::") {
                rest = more;
                length += 1;
            }
            length
        };
        packed.match_indices("super::").map(chain).max().unwrap_or(0)
    }

    /// Whether `name` occurs as a word.
    pub fn names(&self, name: &str) -> bool {
        !words(&self.code, name).is_empty()
    }

    /// Whether a JSON member of this name is written, in a text or by a macro.
    pub fn writes_member(&self, name: &str) -> bool {
        [format!("\"{name}\""), format!("\\\"{name}\\\"")].iter().any(|quoted| {
            let found = self.text.match_indices(quoted.as_str());
            found.into_iter().any(|(at, _)| {
                let rest = self.text[at + quoted.len()..].trim_start();
                rest.starts_with(':') && !rest.starts_with("::")
            })
        })
    }
}

/// A name that a `use` brings in.
#[derive(Debug, PartialEq, Eq)]
pub struct Use {
    /// The whole path, as written; `*` is its last part for a glob.
    pub path: String,
    /// The name that it has in this file.
    pub name: String,
    /// Whether it is visible outside this file: a re-export.
    pub public: bool,
}

#[derive(PartialEq)]
enum Kind {
    Code,
    Comment,
    Literal,
}

/// What begins at `at`, and where it ends.
fn token(bytes: &[u8], at: usize) -> (usize, Kind) {
    let rest = &bytes[at..];
    let after_name = at > 0 && is_name(char::from(bytes[at - 1]));
    if rest.starts_with(b"//") {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
        return (at + end, Kind::Comment);
    }
    if rest.starts_with(b"/*") {
        return (at + block_comment(rest), Kind::Comment);
    }
    if rest[0] == b'"' {
        return (at + quoted(rest, b'"'), Kind::Literal);
    }
    if rest[0] == b'r' && (!after_name || bytes[at - 1] == b'b') {
        let hashes = rest[1..].iter().take_while(|byte| **byte == b'#').count();
        if rest.get(1 + hashes) == Some(&b'"') {
            return (at + raw(rest, hashes), Kind::Literal);
        }
    }
    // A lifetime is no character: `'a` without a quote after it.
    if rest[0] == b'\'' && (rest.get(1) == Some(&b'\\') || closes_soon(rest)) {
        return (at + quoted(rest, b'\''), Kind::Literal);
    }
    (at + 1, Kind::Code)
}

fn closes_soon(rest: &[u8]) -> bool {
    let width = match rest.get(1) {
        Some(0xf0..) => 4,
        Some(0xe0..) => 3,
        Some(0xc0..) => 2,
        _ => 1,
    };
    rest.get(1 + width) == Some(&b'\'')
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0);
    while at < rest.len() {
        match &rest[at..] {
            [b'/', b'*', ..] => (at, depth) = (at + 2, depth + 1),
            [b'*', b'/', ..] => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

fn raw(rest: &[u8], hashes: usize) -> usize {
    let end: Vec<u8> = [b"\""[..].to_vec(), vec![b'#'; hashes]].concat();
    let start = 2 + hashes;
    let length = rest[start..].windows(end.len()).position(|window| window == end);
    length.map_or(rest.len(), |length| start + length + end.len())
}

fn blank(bytes: &mut [u8], start: usize, end: usize) {
    bytes[start..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
}

/// Where items under `#[cfg(test)]` begin and end.
fn test_items(code: &str) -> Vec<(usize, usize)> {
    let attribute = "#[cfg(test)]";
    let ends = |at: usize| {
        let rest = &code[at + attribute.len()..];
        let first = rest.find(['{', ';']).unwrap_or(rest.len());
        let length = if rest[first..].starts_with('{') { first + braces(&rest[first..]) } else { first };
        (at, at + attribute.len() + length)
    };
    code.match_indices(attribute).map(|(at, _)| ends(at)).collect()
}

/// Length of what stands in braces at the beginning.
fn braces(rest: &str) -> usize {
    let mut depth = 0;
    for (at, sign) in rest.char_indices() {
        match sign {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    rest.len()
}

/// Takes apart what follows a path: `::name…` or `::{…}`; `so_far` is the path up to here.
fn expand(rest: &str, so_far: String, paths: &mut Vec<String>) {
    let Some(rest) = rest.trim_start().strip_prefix("::").map(str::trim_start) else {
        paths.push(so_far);
        return;
    };
    if rest.starts_with('{') {
        let inside = &rest[1..braces(rest) - 1];
        for part in split(inside) {
            expand(&format!("::{part}"), so_far.clone(), paths);
        }
        return;
    }
    let length = rest.find(|sign| !is_name(sign)).unwrap_or(rest.len());
    if length == 0 {
        // `*`, or `<` of a generic argument.
        paths.push(so_far);
        return;
    }
    let path =
        if so_far.is_empty() { rest[..length].to_owned() } else { format!("{so_far}::{}", &rest[..length]) };
    expand(&rest[length..], path, paths);
}

/// Takes apart what follows `use`: a path, a group, with or without `as`.
fn expand_use(rest: &str, so_far: &str, public: bool, uses: &mut Vec<Use>) {
    let rest = rest.trim();
    let rest = rest.strip_prefix("::").unwrap_or(rest).trim_start();
    if rest.starts_with('{') {
        for part in split(&rest[1..braces(rest) - 1]) {
            expand_use(part, so_far, public, uses);
        }
        return;
    }
    let length = rest.find(|sign| !is_name(sign) && sign != '*').unwrap_or(rest.len());
    let (part, after) = (&rest[..length], rest[length..].trim_start());
    let path = match (so_far, part) {
        ("", part) => part.to_owned(),
        (so_far, "self") => so_far.to_owned(),
        (so_far, part) => format!("{so_far}::{part}"),
    };
    if after.starts_with("::") {
        return expand_use(after, &path, public, uses);
    }
    let own = path.rsplit("::").next().unwrap_or_default();
    let name = after.strip_prefix("as ").map_or(own, str::trim).to_owned();
    uses.push(Use { path, name, public });
}

/// The type of the `impl` block that this follows `impl` in, unless it implements a trait.
fn inherent(rest: &str) -> Option<String> {
    let rest = rest.trim_start();
    let rest = if rest.starts_with('<') { &rest[angles(rest)..] } else { rest };
    let header = &rest[..rest.find(['{', ';'])?];
    let mut depth = 0_i32;
    let mut plain = String::new();
    for sign in header.replace("->", "  ").chars() {
        depth -= i32::from(matches!(sign, '>' | ')' | ']'));
        if depth == 0 && !matches!(sign, '>' | ')' | ']') {
            plain.push(if matches!(sign, '<' | '(' | '[') { ' ' } else { sign });
        }
        depth += i32::from(matches!(sign, '<' | '(' | '['));
    }
    let mut parts = plain.split_whitespace();
    let name = parts.next()?;
    // What may follow is `where`, and not `for`.
    let of_trait = parts.take_while(|part| *part != "where").any(|part| part == "for");
    (!of_trait).then(|| name.to_owned())
}

/// Length of the generic parameters at the beginning.
fn angles(rest: &str) -> usize {
    let mut depth = 0_i32;
    let mut before = ' ';
    for (at, sign) in rest.char_indices() {
        match sign {
            '<' => depth += 1,
            '>' if before != '-' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
        before = sign;
    }
    rest.len()
}

/// Where `word` occurs as a word of its own.
fn words(code: &str, word: &str) -> Vec<usize> {
    let alone = |at: usize| {
        let before = code[..at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_name) && !after.is_some_and(is_name)
    };
    code.match_indices(word).map(|(at, _)| at).filter(|at| alone(*at)).collect()
}

/// The parts between the commas of the outermost group.
fn split(inside: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0);
    for (at, sign) in inside.char_indices() {
        match sign {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(inside[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(inside[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn is_name(sign: char) -> bool {
    sign.is_alphanumeric() || sign == '_'
}

#[cfg(test)]
mod tests {
    use super::Source;

    fn paths(text: &str) -> Vec<String> {
        Source::of(text).paths("crate")
    }

    #[test]
    fn every_way_to_write_a_path_is_seen() {
        for (text, expected) in [
            ("use crate::config;", &["config"][..]),
            ("pub use crate::config::Config as C;", &["config::Config"]),
            ("use crate::{a::B, c::{self, d::*}, e};", &["a::B", "c::self", "c::d", "e"]),
            ("use crate::{\n    a,\n    b::{\n        C,\n    },\n};", &["a", "b::C"]),
            ("fn f(x: &crate::a::B<'_>) -> crate::c::D<crate::e::F> {}", &["a::B", "c::D", "e::F"]),
            ("let x = crate :: a :: b(1);", &["a::b"]),
            ("let x = <crate::a::B>::new::<u8>();", &["a::B"]),
            ("pub(in crate::a) fn f() {}", &["a"]),
            ("pub(crate) fn f() {} mod my_crate { fn crate_() {} }", &[]),
            ("let c = '\"'; use crate::a; let d = '\\''; let s: &'static str = \"crate::b\";", &["a"]),
            ("// crate::a\n/* crate::b /* crate::c */ crate::d */ /// [`crate::e`]\n", &[]),
            ("let s = r#\"use crate::a; \"x\" \"#; let t = br\"\\\"; use crate::b;", &["b"]),
            ("#[cfg(test)]\nmod tests { use crate::a; fn f() { if x {} } }\nuse crate::b;", &["b"]),
            ("#[cfg(test)]\npub(super) mod tests;\nuse crate::b;", &["b"]),
            ("#[cfg(test)]\nimpl X { fn f() { crate::a::g() } } fn h() { crate::b::i() }", &["b::i"]),
        ] {
            assert_eq!(paths(text), expected, "{text}");
        }
    }

    #[test]
    fn supers_names_and_members_are_seen() {
        assert_eq!(
            Source::of("use super::a; let x = super::super::b; // super::super::super::c").most_supers(),
            2
        );
        assert_eq!(Source::of("use self::a;").most_supers(), 0);
        let names = |text: &str| Source::of(text).names("ArcSwap");
        assert!(names("live: ArcSwap<X>") && !names("MyArcSwap ArcSwaps \"ArcSwap\" // ArcSwap"));
        let writes = |text: &str| Source::of(text).writes_member("error");
        assert!(writes(r##"json!({ "error": x })"##) && writes(r##"r#"{"error":null}"#"##));
        assert!(writes(r##"format!("{{\"error\" : 1}}")"##));
        assert!(!writes(r##"match kind { "error" => 1 } // "error": 2"##));
    }

    #[test]
    fn uses_are_taken_apart() {
        let source = Source::of(
            "use super::{a, b::{self, C as D}};\npub(super) use e::F;\n#[x]\nuse g::*;\nfn h() -> impl I + use<'a> { use i::J; }",
        );
        let uses: Vec<_> =
            source.uses().into_iter().map(|of| format!("{} {} {}", of.path, of.name, of.public)).collect();
        assert_eq!(
            uses,
            [
                "super::a a false",
                "super::b b false",
                "super::b::C D false",
                "e::F F true",
                "g::* * false",
                "i::J J false"
            ]
        );
        assert!(source.names_outside_uses("h") && !source.names_outside_uses("F"));
    }

    #[test]
    fn paths_outside_uses_begin_with_their_root() {
        let source = Source::of(
            "use a::B; fn f() { a::c(); x::a::d(); super::super::e(); super::g::h() } pub(in super::i) fn j() {}",
        );
        assert_eq!(source.paths_from("a"), ["a::c"]);
        assert_eq!(source.paths_from("super"), ["super::super::e", "super::g::h"]);
    }

    #[test]
    fn definitions_and_inherent_impls_are_seen() {
        let source = Source::of(
            "pub struct A<T>(T); enum B { C } fn d() -> impl Iterator { e() }
            impl<T: Fn() -> u8> A<T> where T: for<'a> X<'a> {} impl B {} impl<'a> Trait<'a> for B {}
            impl<T> From<A<T>> for B {} #[cfg(test)] impl B {} unsafe impl Send for B {} impl super::x::Y<u8> {}",
        );
        assert!(source.defines("A") && source.defines("B") && source.defines("d"));
        assert!(!source.defines("C") && !source.defines("e") && !source.defines("Trait"));
        assert_eq!(source.inherent_impls(), ["A", "B", "super::x::Y"]);
    }
}
