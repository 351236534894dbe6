//! The segments of a request's path.

/// The segments of a path that are not empty, from either end.
pub(super) struct Segments<'p>(&'p str);

impl<'p> Segments<'p> {
    /// The segments of `path`.
    pub(super) fn of(path: &'p str) -> Self {
        Self(path)
    }

    /// What is left of the path, behind the slash that ends the last segment.
    pub(super) fn rest(&self) -> &'p str {
        self.0
    }
}

// A path is short, so that looking at each byte takes less than `str::split`, which prepares a search for each slash.
impl<'p> Iterator for Segments<'p> {
    type Item = &'p str;

    fn next(&mut self) -> Option<&'p str> {
        while !self.0.is_empty() {
            let end = self.0.bytes().position(|byte| byte == b'/').unwrap_or(self.0.len());
            let (segment, rest) = self.0.split_at(end);
            self.0 = rest.get(1..).unwrap_or_default();
            if !segment.is_empty() {
                return Some(segment);
            }
        }
        None
    }
}

impl DoubleEndedIterator for Segments<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        while !self.0.is_empty() {
            let start = self.0.bytes().rposition(|byte| byte == b'/').map_or(0, |slash| slash + 1);
            let (rest, segment) = self.0.split_at(start);
            self.0 = rest.get(..start.saturating_sub(1)).unwrap_or_default();
            if !segment.is_empty() {
                return Some(segment);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_the_same_segments_from_either_end() {
        for (path, segments) in [
            ("/v1/chat/completions", &["v1", "chat", "completions"][..]),
            ("v1//é//x/", &["v1", "é", "x"]),
            ("///", &[]),
            ("", &[]),
        ] {
            assert_eq!(Segments::of(path).collect::<Vec<_>>(), segments, "{path}");
            let mut reversed: Vec<_> = Segments::of(path).rev().collect();
            reversed.reverse();
            assert_eq!(reversed, segments, "{path}");
        }
    }
}
