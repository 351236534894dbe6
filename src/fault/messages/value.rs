//! What the placeholders of texts stand for.

use super::Language;

/// What a placeholder of a text stands for.
#[derive(Debug)]
pub(in crate::fault) struct Argument {
    pub(super) name: &'static str,
    pub(super) value: Value,
}

/// The value of an argument.
#[derive(Debug)]
pub(in crate::fault) enum Value {
    /// The same in all languages: a number, or the name of something.
    Text(String),
    /// Names, which are quoted and listed.
    Names(Vec<String>),
    /// A text of each language, by its name, with arguments of its own.
    Phrase(&'static str, Vec<Argument>),
}

/// What can be an argument.
pub(in crate::fault) trait IntoValue {
    /// It as the value of an argument.
    fn value(&self) -> Value;
}

/// An argument for the placeholder `name`.
pub(in crate::fault) fn argument<T: IntoValue + ?Sized>(name: &'static str, value: &T) -> Argument {
    Argument { name, value: value.value() }
}

impl Value {
    /// `value` as a value.
    pub(in crate::fault) fn of(value: &impl IntoValue) -> Self {
        value.value()
    }

    /// The value in a language.
    pub(in crate::fault) fn text(&self, language: Language) -> String {
        let mut text = String::new();
        self.write(language, &mut text);
        text
    }

    /// Appends the value in a language to `message`.
    pub(in crate::fault) fn write(&self, language: Language, message: &mut String) {
        match self {
            Self::Text(text) => message.push_str(text),
            Self::Names(names) => {
                let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
                message.push_str(&quoted.join(language.list_separator()));
            }
            Self::Phrase(name, arguments) => language.fill(message, name, arguments),
        }
    }
}

macro_rules! same_in_all_languages {
    ($($Type:ty)*) => { $(
        impl IntoValue for $Type {
            fn value(&self) -> Value {
                Value::Text(self.to_string())
            }
        }
    )* };
}

same_in_all_languages!(str String u16 u32 u64 usize f64);

impl<T: IntoValue + ?Sized> IntoValue for &T {
    fn value(&self) -> Value {
        (**self).value()
    }
}

impl IntoValue for Vec<String> {
    fn value(&self) -> Value {
        Value::Names(self.clone())
    }
}
