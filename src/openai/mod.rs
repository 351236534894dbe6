//! stand-in
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "")]
pub enum Dialect {
    Chat,
    Completions,
    Responses,
    Messages,
    Other,
}
