//! Money: decimal text outside, integers inside.

use std::{fmt, sync::Arc};

/// An amount of money in billionths (nano-units) of the configured currency.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money(u64);

/// Digits after the decimal point that an amount may have.
const MONEY_DECIMALS: usize = 9;

impl Money {
    /// An amount of so many nano-units.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// An amount of pico-units, rounded half up to nano-units.
    pub fn of_picos(picos: u128) -> Self {
        Self(u64::try_from((picos + 500) / 1_000).unwrap_or(u64::MAX))
    }

    /// The amount in nano-units.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// Reads an amount, for example `500` or `0.25`.
    ///
    /// # Errors
    /// It is not a decimal number, has more than 9 decimals, or is too large.
    pub fn parse(text: &str) -> Result<Self, InvalidDecimal> {
        decimal(text, MONEY_DECIMALS).map(Self)
    }

    /// The sum, at most the largest amount that can be counted.
    #[must_use]
    pub const fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl fmt::Display for Money {
    /// Writes the amount as a decimal number without needless zeros, for example `0.0125`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / 1_000_000_000, self.0 % 1_000_000_000);
        if fraction == 0 {
            return write!(f, "{whole}");
        }
        let (mut fraction, mut width) = (fraction, MONEY_DECIMALS);
        while fraction.is_multiple_of(10) {
            (fraction, width) = (fraction / 10, width - 1);
        }
        write!(f, "{whole}.{fraction:0width$}")
    }
}

/// What a request has cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cost {
    /// How much.
    pub amount: Money,
    /// Of which currency.
    pub currency: Arc<str>,
    /// Whether the gateway has estimated the tokens, because the upstream has not reported all of them.
    pub is_estimated: bool,
}

/// Why a text is not a price or an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDecimal {
    /// It has other characters than digits and one point between digits.
    #[error("is not a decimal number, for example \"2.50\"")]
    NotADecimal,
    /// It has more decimals than are counted.
    #[error("has more than {0} decimals")]
    TooFine(usize),
    /// It is larger than can be counted.
    #[error("is too large to be counted")]
    TooLarge,
}

/// The price of one token in trillionths (pico-units) of the currency.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct TokenPrice(u64);

/// Digits after the decimal point that the price of a million tokens may have: a millionth of a millionth is a pico-unit.
const PRICE_DECIMALS: usize = 6;

impl TokenPrice {
    /// Reads the price of a million tokens, for example `2.50`.
    ///
    /// # Errors
    /// It is not a decimal number, has more than 6 decimals, or is too large.
    pub fn per_million(text: &str) -> Result<Self, InvalidDecimal> {
        decimal(text, PRICE_DECIMALS).map(Self)
    }

    /// What so many tokens cost, in pico-units.
    pub fn of(self, tokens: u64) -> u128 {
        u128::from(self.0) * u128::from(tokens)
    }
}

/// A decimal number as an integer of its `decimals`-th decimal place.
fn decimal(text: &str, decimals: usize) -> Result<u64, InvalidDecimal> {
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return Err(InvalidDecimal::NotADecimal),
        None => (text, ""),
    };
    let are_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !are_digits(whole) || !are_digits(fraction) {
        return Err(InvalidDecimal::NotADecimal);
    }
    let significant = fraction.trim_end_matches('0');
    if significant.len() > decimals {
        return Err(InvalidDecimal::TooFine(decimals));
    }
    format!("{whole}{significant:0<decimals$}").parse().map_err(|_| InvalidDecimal::TooLarge)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn price(text: &str) -> TokenPrice {
        TokenPrice::per_million(text).expect(text)
    }

    #[test]
    fn prices_are_exact() {
        assert_eq!(price("2.50"), TokenPrice(2_500_000));
        assert_eq!(price("0.0375"), TokenPrice(37_500));
        assert_eq!(price("0.000001"), TokenPrice(1));
        assert_eq!(price("10"), TokenPrice(10_000_000));
        assert_eq!(price("0"), TokenPrice(0));
        assert_eq!(price("1.000000000"), TokenPrice(1_000_000));
    }

    #[test]
    fn what_is_not_a_price_says_why() {
        for text in ["", ".", "1.", ".5", "-1", "+1", "1e3", "1,5", "1.2.3", " 1", "0x1", "２"] {
            assert_eq!(TokenPrice::per_million(text), Err(InvalidDecimal::NotADecimal), "{text}");
        }
        assert_eq!(TokenPrice::per_million("0.0000001"), Err(InvalidDecimal::TooFine(6)));
        assert_eq!(TokenPrice::per_million("99999999999999999999"), Err(InvalidDecimal::TooLarge));
    }

    #[test]
    fn amounts_are_written_without_needless_zeros() {
        for text in ["0", "500", "0.25", "0.000000001", "18446744073.709551615"] {
            assert_eq!(Money::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(Money::parse("1.50").unwrap().to_string(), "1.5");
    }

    proptest! {
        #[test]
        fn parsing_and_writing_agree(nanos: u64) {
            let money = Money::from_nanos(nanos);
            prop_assert_eq!(Money::parse(&money.to_string()), Ok(money));
        }

        #[test]
        fn no_text_panics(text in "[0-9.+e-]{0,30}") {
            let _ = Money::parse(&text);
            let _ = TokenPrice::per_million(&text);
        }
    }
}
