//! Which file of a room imports which other: paths are resolved to the file that defines what they name.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, Use};

/// The files of one room, by their module paths (`proxy::relay`; `proxy` for its mod.rs).
pub struct Room<'a> {
    modules: BTreeMap<String, (&'a str, &'a Source)>,
}

/// One file's imports of another: the names that it takes from it.
type Imports = BTreeMap<String, BTreeMap<String, BTreeSet<String>>>;

/// How often a re-export may lead to another.
const MAX_REEXPORTS: usize = 8;

impl<'a> Room<'a> {
    /// From paths below `src`, like `proxy/mod.rs`.
    pub fn new(files: impl IntoIterator<Item = (&'a str, &'a Source)>) -> Self {
        let modules = files.into_iter().map(|(path, source)| (module(path), (path, source))).collect();
        Self { modules }
    }

    /// What each file imports from which other file of the room.
    pub fn imports(&self) -> Imports {
        let mut imports = Imports::new();
        for (module, (path, source)) in &self.modules {
            for named in self.named(module, source) {
                let Some(definer) = self.definer(module, &named, MAX_REEXPORTS) else { continue };
                if definer != *path {
                    let of_file = imports.entry((*path).to_owned()).or_default();
                    of_file.entry(definer.to_owned()).or_default().insert(named);
                }
            }
        }
        imports
    }

    /// The circles that the imports form: the files of each, and which names tie them.
    pub fn circles(&self) -> Vec<String> {
        let imports = self.imports();
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            imports.keys().map(|file| (file.as_str(), reached(&imports, file))).collect();
        let mutual = |one: &str, other: &str| reached[one].contains(other) && reached[other].contains(one);
        let mut circles = BTreeSet::new();
        for file in imports.keys().filter(|file| mutual(file, file)) {
            let members: Vec<_> = imports.keys().filter(|other| mutual(file, other)).collect();
            let ties = members.iter().flat_map(|from| {
                let inside = imports[*from].iter().filter(|(to, _)| members.contains(to));
                inside.map(move |(to, names)| format!("\n  {from} -> {to}: {names:?}"))
            });
            circles.insert(format!("a circle of {} files:{}", members.len(), ties.collect::<String>()));
        }
        circles.into_iter().collect()
    }

    /// The files in which a type has inherent `impl` blocks, for each type where these are several.
    pub fn scattered_impls(&self) -> Vec<String> {
        let mut places: BTreeMap<(String, String), BTreeSet<&str>> = BTreeMap::new();
        for (module, (path, source)) in &self.modules {
            for name in source.inherent_impls() {
                // Two types of one name in two files are not the same type.
                let definer = self.definer(module, &name, MAX_REEXPORTS).unwrap_or(path);
                let own = name.rsplit("::").next().unwrap_or(&name).to_owned();
                places.entry((definer.to_owned(), own)).or_default().insert(path);
            }
        }
        let several = places.into_iter().filter(|(_, files)| files.len() > 1);
        several.map(|((definer, name), files)| format!("{name} of {definer}: {files:?}")).collect()
    }

    /// The paths that a file names in its imports and its code, as they stand there. A module that is imported counts by what is named
    /// through it; a re-export counts if the file uses the name itself.
    fn named(&self, module: &str, source: &Source) -> BTreeSet<String> {
        let mut named = BTreeSet::new();
        let mut roots: BTreeSet<String> = ["crate", "super", "self"].map(str::to_owned).into();
        roots.extend(self.children(module));
        for Use { path, name, public } in source.uses() {
            let is_module = self.modules.contains_key(&absolute(module, &path));
            if is_module {
                named.extend(
                    source.paths_from(&name).into_iter().map(|used| path.clone() + &used[name.len()..]),
                );
            } else if !public || source.names_outside_uses(&name) {
                named.insert(path);
            }
        }
        named.extend(roots.iter().flat_map(|root| source.paths_from(root)));
        named
    }

    /// The file that defines what `path` names in `module`; none if it is outside the room.
    fn definer(&self, module: &str, path: &str, reexports: usize) -> Option<&'a str> {
        let absolute = absolute(module, path);
        let parts: Vec<&str> = absolute.split("::").collect();
        let depth =
            (1..=parts.len()).rev().find(|depth| self.modules.contains_key(&parts[..*depth].join("::")))?;
        let owner = parts[..depth].join("::");
        let (file, source) = self.modules[&owner];
        let Some(name) = parts.get(depth).filter(|name| **name != "*") else { return Some(file) };
        if reexports == 0 || source.defines(name) {
            return Some(file);
        }
        let uses = source.uses();
        if let Some(of) = uses.iter().find(|of| of.name == **name) {
            // A name from outside the room is imported from whoever re-exports it.
            return self.definer(&owner, &of.path, reexports - 1).or(Some(file));
        }
        let globs = uses.iter().filter_map(|of| of.path.strip_suffix("::*"));
        let through = globs.filter_map(|of| self.definer(&owner, &format!("{of}::{name}"), reexports - 1));
        let defined = through.into_iter().find(|file| self.source(file).defines(name));
        Some(defined.unwrap_or(file))
    }

    /// The names of the modules right below this one.
    fn children(&self, module: &str) -> Vec<String> {
        let below = format!("{module}::");
        let names = self.modules.keys().filter_map(|other| other.strip_prefix(&below));
        names.filter(|name| !name.contains("::")).map(str::to_owned).collect()
    }

    fn source(&self, file: &str) -> &'a Source {
        self.modules[&module(file)].1
    }
}

/// The module that a file is, from the crate's root.
fn module(path: &str) -> String {
    let path = path.strip_suffix(".rs").unwrap_or(path);
    path.strip_suffix("/mod").unwrap_or(path).replace('/', "::")
}

/// `path` from the crate's root, as `module` reads it.
fn absolute(module: &str, path: &str) -> String {
    let mut base: Vec<&str> = module.split("::").collect();
    let mut parts = path.split("::").peekable();
    if parts.next_if_eq(&"crate").is_some() {
        base.clear();
    } else {
        _ = parts.next_if_eq(&"self");
        while parts.next_if_eq(&"super").is_some() {
            base.pop();
        }
    }
    base.extend(parts);
    base.join("::")
}

/// All files that are reached from `file` by imports.
fn reached<'a>(imports: &'a Imports, file: &str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::new();
    let mut next = vec![file];
    while let Some(file) = next.pop() {
        for to in imports.get(file).into_iter().flat_map(BTreeMap::keys) {
            if reached.insert(to.as_str()) {
                next.push(to);
            }
        }
    }
    reached
}
