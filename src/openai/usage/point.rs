//! Where a request can be made to ask for the usage of its stream.

use std::ops::Range;

use super::super::json::{Leaf, NotJson, Object, Shape, Value};

/// Where a request body can be made to ask for the usage of its stream, in offsets of that body.
///
/// `stream_options.include_usage` belongs to chat completions and completions (OpenAI API reference, "Stream options"). Absent, `null`, `{}` and
/// `{"include_usage":false}` mean the same there: no usage.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub enum UsagePoint {
    /// There are no `stream_options`: they can be inserted behind the body's opening brace.
    #[default]
    NoOptions,
    /// The `stream_options` are null, here.
    NullOptions(Range<usize>),
    /// The `stream_options` do not say whether to include the usage.
    InOptions {
        /// Behind their opening brace.
        after_brace: usize,
        /// They have no members.
        is_empty: bool,
    },
    /// The value of `include_usage`, which is `false` or null.
    Off(Range<usize>),
    /// Nowhere: the body asks for the usage already, or its `stream_options` must stay as they are.
    None,
}

/// The `stream_options` of a request.
#[derive(Debug, Default)]
pub(in crate::openai) struct StreamOptions {
    /// `include_usage` is true.
    pub(in crate::openai) include_usage: bool,
    off: Option<Range<usize>>,
    /// The gateway must not set `include_usage`.
    is_closed: bool,
    has_members: bool,
}

impl StreamOptions {
    /// Reads the value of `stream_options`, and where it can be edited.
    pub(in crate::openai) fn read(value: &mut Value<'_>) -> Result<(Self, UsagePoint), NotJson> {
        let begin = value.begins_at();
        let mut options = Self::default();
        let point = match value.object(&mut options)? {
            Shape::Null => UsagePoint::NullOptions(begin..value.ends_at()),
            Shape::Other => UsagePoint::None,
            Shape::Object => options.point(begin + 1),
        };
        Ok((options, point))
    }

    fn point(&self, after_brace: usize) -> UsagePoint {
        match &self.off {
            _ if self.is_closed => UsagePoint::None,
            Some(value) => UsagePoint::Off(value.clone()),
            None => UsagePoint::InOptions { after_brace, is_empty: !self.has_members },
        }
    }
}

impl Object for StreamOptions {
    fn member(&mut self, key: &[u8], value: &mut Value<'_>) -> Result<(), NotJson> {
        self.has_members = true;
        match key {
            b"include_usage" => {
                let begin = value.begins_at();
                let leaf = value.leaf()?;
                self.include_usage |= leaf == Leaf::Bool(true);
                let is_off = matches!(leaf, Leaf::Null | Leaf::Bool(false));
                let earlier = self.off.replace(begin..value.ends_at());
                self.is_closed |= !is_off || earlier.is_some();
            }
            // vLLM: together with `include_usage`, every chunk has a usage; alone it has no effect (vLLM, `StreamOptions` in `protocol.py`).
            b"continuous_usage_stats" => {
                self.is_closed |= !matches!(value.leaf()?, Leaf::Null | Leaf::Bool(false));
            }
            _ => value.skip()?,
        }
        Ok(())
    }
}
