//! Markdown pages: their headings, links and code blocks, as GitHub and mdBook read them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// A Markdown file of the repository.
pub struct Page {
    /// Its path within the repository.
    pub path: String,
    pub text: String,
}

/// A fenced code block.
pub struct Block {
    pub language: String,
    pub text: String,
    /// The number of its first line.
    pub line: usize,
    /// Why it is not run, from the comment `<!-- not run: … -->` on the line before it.
    pub not_run: Option<String>,
}

/// A link of a page.
pub struct Link {
    pub line: usize,
    pub target: String,
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The manual's pages and the README.
pub fn manual() -> Vec<Page> {
    let mut paths = Vec::new();
    collect(&root().join("docs"), &mut paths);
    paths.push(root().join("README.md"));
    paths.sort();
    paths.iter().map(|path| Page::read(path)).collect()
}

/// All pages of the repository.
pub fn all() -> Vec<Page> {
    let others = [
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "benches/README.md",
        "certs/README.md",
        "fuzz/README.md",
        "tests/resources/README.md",
    ];
    let others = others.iter().map(|path| Page::read(&root().join(path)));
    manual().into_iter().chain(others).collect()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "md") {
            paths.push(path);
        }
    }
}

impl Page {
    pub fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path: path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned(), text }
    }

    /// The names that a link to this page may have behind `#`.
    pub fn anchors(&self) -> BTreeSet<String> {
        let mut anchors = BTreeSet::new();
        for (_, line) in self.prose() {
            let Some(heading) = line.strip_prefix('#') else { continue };
            let name = anchor(heading.trim_start_matches('#').trim());
            let mut unique = name.clone();
            for number in 1.. {
                if anchors.insert(unique) {
                    break;
                }
                unique = format!("{name}-{number}");
            }
        }
        anchors
    }

    /// All links and images, without those in code.
    pub fn links(&self) -> Vec<Link> {
        let mut links = Vec::new();
        for (line, text) in self.prose() {
            let text = without_code(text);
            for (index, _) in text.match_indices("](") {
                let rest = &text[index + 2..];
                if let Some(end) = rest.find(')') {
                    links.push(Link { line, target: rest[..end].to_owned() });
                }
            }
        }
        links
    }

    /// The numbered lines outside of code blocks.
    fn prose(&self) -> impl Iterator<Item = (usize, &str)> {
        let mut inside = false;
        self.text.lines().enumerate().filter_map(move |(index, line)| {
            let fence = line.trim_start().starts_with("```");
            inside ^= fence;
            (!inside && !fence).then_some((index + 1, line))
        })
    }

    /// All fenced code blocks.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = Vec::new();
        let mut open: Option<Block> = None;
        let mut before = "";
        for (index, line) in self.text.lines().enumerate() {
            match (&mut open, line.trim_start().strip_prefix("```")) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(block), None) => {
                    block.text.push_str(line);
                    block.text.push('\n');
                }
                (None, Some(language)) => {
                    let not_run =
                        before.strip_prefix("<!-- not run:").and_then(|why| why.strip_suffix("-->"));
                    open = Some(Block {
                        language: language.to_owned(),
                        text: String::new(),
                        line: index + 2,
                        not_run: not_run.map(|why| why.trim().to_owned()),
                    });
                }
                (None, None) => {}
            }
            before = line.trim();
        }
        assert!(open.is_none(), "{}: a code block is not closed", self.path);
        blocks
    }
}

/// The name of a heading, by the rules of GitHub and mdBook: letters, digits, `-` and `_` stay, spaces become `-`.
pub fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter_map(|letter| match letter {
        ' ' => Some('-'),
        letter if letter.is_alphanumeric() || letter == '-' || letter == '_' => {
            Some(letter.to_ascii_lowercase())
        }
        _ => None,
    });
    kept.collect()
}

/// A line with spaces in the place of its code.
fn without_code(line: &str) -> String {
    let parts = line.split('`').enumerate();
    parts.map(|(index, part)| if index % 2 == 0 { part.to_owned() } else { " ".repeat(part.len()) }).collect()
}
