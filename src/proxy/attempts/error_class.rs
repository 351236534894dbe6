//! Whose fault an upstream's error is: one table, by status, error code, error type and, where a provider has nothing better, by message.
//!
//! A message decides about a key only by how it begins: an upstream may repeat parts of the request in a message, and no client shall be able to
//! have a key taken out of use.

use http::StatusCode;

use super::error_body::ErrorBody;

/// Whose fault an upstream's error is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ErrorClass {
    /// The key is not valid, or its whole account is refused.
    KeyRefused,
    /// The account has no credit left, or has reached its spending limit.
    NoCredit,
    /// The key may not, or its account cannot afford to, serve this request. Others it may serve.
    KeyUnfit,
    /// A 403 that may be about the key or about the request.
    Forbidden,
    /// A rate limit is reached.
    RateLimited,
    /// The request alone is larger than a rate limit: that says nothing about other requests.
    TooLargeForLimit,
    /// The upstream has waited too long, for the request or for its own answer.
    Timeout,
    /// The server is overloaded or has failed.
    Server,
    /// The request is too long for the model.
    ContextTooLong,
    /// The request is at fault in another way, or the upstream does not do what it asks for.
    Request,
}

/// Codes, types and reasons of an account without credit.
const NO_CREDIT: [&str; 13] = [
    // OpenAI: the type of all, and today's codes (<https://help.openai.com/en/articles/5955604>).
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_hard_limit_reached",
    "billing_not_active",
    // Anthropic: 402, and 429 for a limit that the organization has set (anthropic-sdk-python `_exceptions.py`, documentation of errors).
    "billing_error",
    "enforced_spend_limit_reached",
    // Moonshot: 429 (MoonshotAI/kimi-code#1857).
    "exceeded_current_quota_error",
    // Gateways that resell: one-api and new-api.
    "insufficient_user_quota",
    // Google: `ErrorInfo.reason` (googleapis `google/api/error_reason.proto`).
    "BILLING_DISABLED",
    "insufficient_balance",
];

/// How messages about an account without credit begin, where code and type say less.
const NO_CREDIT_MESSAGES: [&str; 8] = [
    // OpenAI: 429, also where a gateway in between leaves out type and code (dyad-sh/dyad#4184).
    "you have no credits remaining",
    // Anthropic: 400 `invalid_request_error` (anthropics/claude-quickstarts#229, anthropics/claude-code#2127).
    "your credit balance is too low",
    "you have reached your specified api usage limits",
    // DeepSeek: 402, passed on by others as 400 (Aider-AI/aider#4851).
    "insufficient balance",
    // OpenRouter: 402, passed on by others as 400 (Gitlawb/openclaude#43).
    "insufficient credits",
    // OpenRouter: 403 for the limit of one key (RooCodeInc/Roo-Code#515).
    "key limit exceeded",
    // xAI: 403 (Wei-Shaw/sub2api#4069).
    "you have run out of credits",
    // Google: 429 for prepaid accounts (dyad-sh/dyad#3626).
    "your prepayment credits are depleted",
];

/// Anthropic's messages about an account that lacks credit for requests with a long context only.
const LONG_CONTEXT_MESSAGES: [&str; 2] = [
    "extra usage is required for long context requests",
    "usage credits are required for long context requests",
];

/// The same where a message names the account: what stands before the name, which is one word or empty, and what stands behind it.
const NO_CREDIT_OF_NAMED: [(&str, &str); 3] = [
    // xAI: 429 (continuedev/continue#10373).
    ("your team ", " has either used all available credits"),
    // xAI: 403, `team` or `teams`, with `credits` or `credits or licenses` (griptape-ai/griptape-nodes-engine#1079, continuedev/continue#12670).
    ("your newly created team", " doesn't have any credits"),
    // Fireworks: 412 (pollinations/pollinations#12136).
    ("account ", " is suspended, possibly due to reaching the monthly spending limit"),
];

/// Codes, types and reasons of a key or an account that is refused.
const KEY_REFUSED: [&str; 17] = [
    // OpenAI (documentation of error codes); `invalid_api_key` is also Groq's and Azure's.
    "invalid_api_key",
    "account_deactivated",
    "access_terminated",
    "ip_not_authorized",
    // Anthropic, DeepSeek: `type`; Moonshot has a name of its own.
    "authentication_error",
    "invalid_authentication_error",
    // Groq: 400 (GroqCloud's documentation of errors); Cerebras.
    "organization_restricted",
    "wrong_api_key",
    // one-api and new-api.
    "invalid_token",
    // Google: `error.status`, `ErrorInfo.reason` (googleapis `google/api/error_reason.proto`); the first is a 400 (continuedev/continue#10530).
    "API_KEY_INVALID",
    "API_KEY_SERVICE_BLOCKED",
    "API_KEY_IP_ADDRESS_BLOCKED",
    "API_KEY_HTTP_REFERRER_BLOCKED",
    "CONSUMER_INVALID",
    "CONSUMER_SUSPENDED",
    "SERVICE_DISABLED",
    "UNAUTHENTICATED",
];

/// How messages about a refused key begin, where code and type say less.
const KEY_REFUSED_MESSAGES: [&str; 6] = [
    // xAI: 400 (openai/codex#1352).
    "incorrect api key provided",
    // Google: 400 and 403, also without details (continuedev/continue#10530, #11541).
    "api key not valid",
    "api key expired",
    "your api key was reported as leaked",
    // Anthropic: 400 and 403 (anthropics/claude-code#9384).
    "this organization has been disabled",
    // Azure: 401 and 403 (microsoft/semantic-kernel#10337).
    "access denied due to invalid subscription key",
];

/// Codes of a key without the permission for this operation (OpenAI's restricted keys).
const KEY_UNFIT: [&str; 3] = ["missing_scope", "insufficient_permissions", "insufficient_scope"];

/// What a 401 may say without saying more than its status. Any other word at a 401 is not known to be about the whole key.
const UNAUTHORIZED: [&str; 5] = ["401", "invalid_request_error", "unauthorized", "Unauthorized", "AuthError"];

/// Codes of a server that is overloaded, whatever its status.
const OVERLOADED: [&str; 3] = ["engine_overloaded_error", "overloaded_error", "server_is_overloaded"];

/// Codes and types of a request that is too long for its model (OpenAI; llama.cpp).
const TOO_LONG: [&str; 2] = ["context_length_exceeded", "exceed_context_size_error"];

/// Parts of messages about a request that is too long for its model.
const TOO_LONG_MESSAGES: [&str; 8] = [
    // vLLM, Mistral, DeepSeek, OpenRouter (vllm-project/vllm#20409); SGLang; llama.cpp.
    "maximum context length",
    "longer than the model's context length",
    "exceeds the available context size",
    // Anthropic, Google, xAI, Moonshot.
    "prompt is too long",
    "exceeds the maximum number of tokens",
    "maximum prompt length",
    "exceeded model token limit",
    "context window",
];

impl ErrorClass {
    /// The class of an error response with this status and this body, from an upstream that was sent a key or not.
    pub(super) fn of(status: StatusCode, body: Option<&ErrorBody>, has_key: bool) -> Self {
        let none = ErrorBody::default();
        let error = Described::new(body.unwrap_or(&none));
        // Without a key there is none that could be refused.
        let can_be = |class: &Self| has_key || *class == Self::NoCredit;
        if status.is_client_error()
            && let Some(class) = error.about_key(status).filter(can_be)
        {
            return class;
        }
        // Gateways and resellers report an empty account as a failure of theirs, too. A message alone says nothing: a server that fails may
        // repeat anything in it.
        if status.is_server_error() && error.has_word(&NO_CREDIT) {
            return Self::NoCredit;
        }
        if error.has_word(&OVERLOADED) {
            return Self::Server;
        }
        match status.as_u16() {
            // There is no key that could be at fault: the server and its operator disagree about whether one is needed.
            401 if !has_key => Self::Request,
            401 if error.says_more_than_unauthorized() => Self::KeyUnfit,
            401 => Self::KeyRefused,
            403 if error.is_about_request() || !has_key => Self::Request,
            403 => Self::Forbidden,
            400 | 413 | 422 if error.is_too_long() => Self::ContextTooLong,
            413 | 429 if error.is_too_large_for_limit() => Self::TooLargeForLimit,
            429 => Self::RateLimited,
            // 501 says that the upstream does not have the operation, as 404 does: a repetition fails too, and the target is not ill.
            501 => Self::Request,
            // 500 to 504 are the server's own; 520 to 527 and 530 are Cloudflare's for a server behind it
            // (<https://developers.cloudflare.com/support/troubleshooting/http-status-codes/cloudflare-5xx-errors/>); 529 is Anthropic's for an
            // overload. HTTP has no status above 599 (RFC 9110 section 15).
            408 => Self::Timeout,
            500.. => Self::Server,
            _ => Self::Request,
        }
    }

    /// The class of an error that is about the key or its account, by its words alone.
    pub(super) fn about_key(body: &ErrorBody) -> Option<Self> {
        Described::new(body).about_key(StatusCode::BAD_REQUEST)
    }
}

/// An error with its message in lower case.
struct Described<'a> {
    error: &'a ErrorBody,
    message: String,
}

impl<'a> Described<'a> {
    fn new(error: &'a ErrorBody) -> Self {
        Self { error, message: error.message().to_ascii_lowercase() }
    }

    /// The class of an error that is about the key or its account, if this one says so.
    fn about_key(&self, status: StatusCode) -> Option<ErrorClass> {
        if self.cannot_afford_it() {
            return Some(ErrorClass::KeyUnfit);
        }
        if status == StatusCode::PAYMENT_REQUIRED || self.has_word(&NO_CREDIT) {
            return Some(ErrorClass::NoCredit);
        }
        let may_tell_by_message = matches!(status.as_u16(), 400 | 401 | 403 | 412 | 429);
        if may_tell_by_message && self.says_no_credit() {
            return Some(ErrorClass::NoCredit);
        }
        if !matches!(status.as_u16(), 400 | 401 | 403) {
            return None;
        }
        if self.has_word(&KEY_UNFIT) {
            return Some(ErrorClass::KeyUnfit);
        }
        let refused = self.has_word(&KEY_REFUSED) || self.begins_with(&KEY_REFUSED_MESSAGES);
        refused.then_some(ErrorClass::KeyRefused)
    }

    /// Whether smaller requests than this one may pass. OpenRouter: a 402 for one that could cost more than is left, unless nothing is left
    /// (anomalyco/opencode#12219). Anthropic: a 429 for one with a long context (anthropics/claude-code#29584, #64982).
    fn cannot_afford_it(&self) -> bool {
        let more_than_left = self.message.starts_with("this request requires more credits")
            && number_after(&self.message, "can only afford ").is_some_and(|left| left > 0);
        more_than_left || self.begins_with(&LONG_CONTEXT_MESSAGES)
    }

    fn says_no_credit(&self) -> bool {
        self.begins_with(&NO_CREDIT_MESSAGES)
            || NO_CREDIT_OF_NAMED.iter().any(|(before, behind)| self.names_one_between(before, behind))
    }

    /// Whether the message begins with `before`, one word or none, and `behind`.
    fn names_one_between(&self, before: &str, behind: &str) -> bool {
        let Some(rest) = self.message.strip_prefix(before) else { return false };
        let name = rest.find(char::is_whitespace).unwrap_or(rest.len());
        rest[name..].starts_with(behind)
    }

    fn says_more_than_unauthorized(&self) -> bool {
        let code = self.error.code();
        !code.is_empty() && !UNAUTHORIZED.contains(&code)
    }

    /// Whether a 403 is about the model that the client chose, the content of its request, or the region, none of which another key changes.
    fn is_about_request(&self) -> bool {
        let about_request = |word: &str| {
            word.starts_with("model_")
                || word.contains("moderation")
                || word.contains("content_policy")
                || word.contains("content_filter")
                || word == "unsupported_country_region_territory"
        };
        self.error.param() == "model"
            || self.error.is_moderation()
            || self.error.words().any(about_request)
            // xAI: code and type speak of permission only (xai-org's documentation of errors).
            || self.message.starts_with("content violates usage guidelines")
    }

    fn is_too_long(&self) -> bool {
        self.has_word(&TOO_LONG) || TOO_LONG_MESSAGES.iter().any(|part| self.message.contains(part))
    }

    /// OpenAI: 429 `Request too large for gpt-4o … Limit 30000, Requested 30601`; Groq: the same as 413 (DrShushen/climb#13,
    /// HunorLaczko/ha-groq-cloud-api#27). A limit that is merely used up has the same form, and requests less than the limit.
    fn is_too_large_for_limit(&self) -> bool {
        if self.message.starts_with("request too large for ") {
            return true;
        }
        let limit = number_after(&self.message, "limit ");
        let requested = number_after(&self.message, "requested ");
        limit.zip(requested).is_some_and(|(limit, requested)| requested > limit)
    }

    fn has_word(&self, list: &[&str]) -> bool {
        self.error.words().any(|word| list.contains(&word))
    }

    fn begins_with(&self, list: &[&str]) -> bool {
        list.iter().any(|beginning| self.message.starts_with(beginning))
    }
}

/// The number behind the first `words` that a number follows.
fn number_after(text: &str, words: &str) -> Option<u64> {
    text.match_indices(words).find_map(|(at, _)| {
        let rest = &text[at + words.len()..];
        let digits = rest.find(|sign: char| !sign.is_ascii_digit()).unwrap_or(rest.len());
        rest[..digits].parse().ok()
    })
}

#[cfg(test)]
mod tests;
