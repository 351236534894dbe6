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
const NO_CREDIT_MESSAGES: [&str; 6] = [
    // Anthropic: 400 `invalid_request_error` (anthropics/claude-quickstarts#229, anthropics/claude-code#66314).
    "your credit balance is too low",
    "you have reached your specified api usage limits",
    // DeepSeek: 402, passed on by others as 400 (Aider-AI/aider#4851).
    "insufficient balance",
    // OpenRouter: 403 for the limit of one key (RooCodeInc/Roo-Code#515).
    "key limit exceeded",
    // xAI: 403 (Wei-Shaw/sub2api#4069).
    "you have run out of credits",
    // Google: 429 for prepaid accounts.
    "your prepayment credits are depleted",
];

/// xAI's message begins with the team's name: 429 (continuedev/continue#10373).
const XAI_TEAM: (&str, &str) = ("your team ", " has either used all available credits");

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
        if status.is_client_error()
            && let Some(class) = error.about_key(status)
        {
            return class;
        }
        if error.has_word(&OVERLOADED) {
            return Self::Server;
        }
        match status.as_u16() {
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
        let may_tell_by_message = matches!(status.as_u16(), 400 | 401 | 403 | 429);
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

    /// OpenRouter's 402 for one request that could cost more than is left (anomalyco/opencode#12219): smaller ones may pass, unless nothing is left.
    fn cannot_afford_it(&self) -> bool {
        self.message.starts_with("this request requires more credits")
            && number_after(&self.message, "can only afford ").is_some_and(|left| left > 0)
    }

    fn says_no_credit(&self) -> bool {
        let (team, spent) = XAI_TEAM;
        self.begins_with(&NO_CREDIT_MESSAGES)
            || (self.message.starts_with(team) && self.message.contains(spent))
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
mod tests {
    use super::{ErrorClass::*, *};

    fn class(status: u16, body: &str) -> ErrorClass {
        let error = ErrorBody::read(body.as_bytes());
        ErrorClass::of(StatusCode::from_u16(status).unwrap(), error.as_ref(), true)
    }

    /// Each body is a provider's own, as public issues quote it (the tables above say which), without names of accounts.
    #[test]
    fn providers_are_understood() {
        for (status, body, expected) in [
            // No credit.
            (
                429,
                r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
                NoCredit,
            ),
            (
                429,
                r#"{"error":{"message":"…","type":"insufficient_quota","param":null,"code":"credit_balance_exhausted"}}"#,
                NoCredit,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."},"request_id":"r"}"#,
                NoCredit,
            ),
            (402, r#"{"type":"error","error":{"type":"billing_error","message":"…"}}"#, NoCredit),
            (
                402,
                r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#,
                NoCredit,
            ),
            (
                400,
                r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#,
                NoCredit,
            ),
            (
                402,
                r#"{"error":{"message":"This request requires more credits, or fewer max_tokens. You requested up to 32000 tokens, but can only afford 0. To increase, visit https://openrouter.ai/settings/keys","code":402}}"#,
                NoCredit,
            ),
            (
                402,
                r#"{"error":{"message":"This request requires more credits, or fewer max_tokens. You requested up to 64000 tokens, but can only afford 2666. To increase, visit https://openrouter.ai/settings/credits","code":402,"metadata":{"provider_name":null}},"user_id":"u"}"#,
                KeyUnfit,
            ),
            (
                403,
                r#"{"error":{"message":"Key limit exceeded. Manage it using https://openrouter.ai/keys","code":403}}"#,
                NoCredit,
            ),
            (
                429,
                r#"{"code":"Some resource has been exhausted","error":"Your team t has either used all available credits or reached its monthly spending limit. To continue making API requests, please purchase more credits or raise your spending limit."}"#,
                NoCredit,
            ),
            (
                403,
                r#"{"code":"c","error":"You have run out of credits or need a Grok subscription."}"#,
                NoCredit,
            ),
            (
                429,
                r#"{"error":{"message":"Your account o <ak-f> is suspended due to insufficient balance, please recharge your account or check your plan and billing details","type":"exceeded_current_quota_error"}}"#,
                NoCredit,
            ),
            // A key that is refused.
            (
                401,
                r#"{"error":{"message":"Incorrect API key provided: sk-…","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
                KeyRefused,
            ),
            (
                401,
                r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#,
                KeyRefused,
            ),
            (
                400,
                r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}]"#,
                KeyRefused,
            ),
            (
                403,
                r#"{"error":{"code":403,"message":"Permission denied: Consumer 'api_key:A' has been suspended.","status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"CONSUMER_SUSPENDED"}]}}"#,
                KeyRefused,
            ),
            (
                403,
                r#"{"error":{"code":403,"message":"Your API key was reported as leaked. Please use another API key.","status":"PERMISSION_DENIED"}}"#,
                KeyRefused,
            ),
            (
                400,
                r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: gs***tF. You can obtain an API key from https://console.x.ai."}"#,
                KeyRefused,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"This organization has been disabled."},"request_id":"r"}"#,
                KeyRefused,
            ),
            (
                401,
                r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint."}}"#,
                KeyRefused,
            ),
            (401, r#"{"detail":"Unauthorized"}"#, KeyRefused),
            (401, r#"{"error":{"message":"User not found.","code":401}}"#, KeyRefused),
            (401, "", KeyRefused),
            (
                400,
                r#"{"error":{"message":"Organization has been restricted. Please reach out to support if you believe this was in error.","type":"invalid_request_error","code":"organization_restricted"}}"#,
                KeyRefused,
            ),
            // A key that may not do this.
            (
                401,
                r#"{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: model.request.","type":"invalid_request_error","param":null,"code":"missing_scope"}}"#,
                KeyUnfit,
            ),
            (
                401,
                r#"{"error":{"code":"PermissionDenied","message":"Principal does not have access to API/Operation."}}"#,
                KeyUnfit,
            ),
            // A 403 that is the request's.
            (
                403,
                r#"{"error":{"message":"Project `p` does not have access to model `gpt-4o`","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
                Request,
            ),
            (
                403,
                r#"{"error":{"message":"m requires moderation on p. Your input was flagged for \"violence\".","code":403,"metadata":{"reasons":["violence"],"flagged_input":"x"}}}"#,
                Request,
            ),
            (
                403,
                r#"{"error":{"message":"Country, region, or territory not supported","type":"request_forbidden","param":null,"code":"unsupported_country_region_territory"}}"#,
                Request,
            ),
            (
                403,
                r#"{"code":"The caller does not have permission to execute the specified operation","error":"Content violates usage guidelines."}"#,
                Request,
            ),
            (
                403,
                r#"{"error":{"code":403,"message":"The caller does not have permission","status":"PERMISSION_DENIED"}}"#,
                Forbidden,
            ),
            (
                403,
                r#"{"type":"error","error":{"type":"permission_error","message":"Your API key does not have permission to use the specified resource."}}"#,
                Forbidden,
            ),
            (403, "<!DOCTYPE html><title>Attention Required! | Cloudflare</title>", Forbidden),
            // Limits.
            (
                429,
                r#"{"error":{"message":"Rate limit reached for gpt-4o in organization o on tokens per min (TPM): Limit 30000, Used 29000, Requested 1443. Please try again in 4.77s.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
                RateLimited,
            ),
            (
                429,
                r#"{"error":{"message":"Request too large for gpt-4o in organization o on tokens per min (TPM): Limit 30000, Requested 30601. The input or output tokens must be reduced in order to run successfully.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
                TooLargeForLimit,
            ),
            (
                413,
                r#"{"error":{"message":"Request too large for model `llama-3.3-70b-versatile` in organization `o` service tier `on_demand` on tokens per minute (TPM): Limit 12000, Requested 14137, please reduce your message size and try again.","type":"tokens","code":"rate_limit_exceeded"}}"#,
                TooLargeForLimit,
            ),
            (
                429,
                r#"{"error":{"message":"Rate limit of 5 reached: Limit 5, Requested 9.","type":"requests"}}"#,
                TooLargeForLimit,
            ),
            (
                429,
                r#"[{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34s"}]}}]"#,
                RateLimited,
            ),
            (
                429,
                r#"{"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation have exceeded token rate limit."}}"#,
                RateLimited,
            ),
            (
                429,
                r#"{"object":"error","message":"Rate limit exceeded","type":"rate_limited","param":null,"code":"1300","raw_status_code":429}"#,
                RateLimited,
            ),
            (
                429,
                r#"{"error":{"message":"The engine is currently overloaded, please try again later","type":"engine_overloaded_error"}}"#,
                Server,
            ),
            (
                413,
                r#"{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#,
                Request,
            ),
            // Too long for the model.
            (
                400,
                r#"{"error":{"message":"…","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
                ContextTooLong,
            ),
            (
                400,
                r#"{"object":"error","message":"This model's maximum context length is 32768 tokens. However, you requested 41648 tokens","type":"BadRequestError","param":null,"code":400}"#,
                ContextTooLong,
            ),
            (
                400,
                r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 213462 tokens > 200000 maximum"}}"#,
                ContextTooLong,
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it","type":"exceed_context_size_error","n_ctx":4096}}"#,
                ContextTooLong,
            ),
            // The request's own.
            (
                400,
                r#"{"error":{"message":"Invalid value: 'credit balance is too low'.","type":"invalid_request_error","param":"messages[0].role","code":"invalid_value"}}"#,
                Request,
            ),
            (
                400,
                r#"{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}"#,
                Request,
            ),
            (
                404,
                r#"{"error":{"message":"The model `m` does not exist","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
                Request,
            ),
            (422, r#"{"detail":[{"type":"missing","loc":["body","messages"]}]}"#, Request),
            (501, "", Request),
        ] {
            assert_eq!(class(status, body), expected, "{status} {body}");
        }
    }

    #[test]
    fn the_servers_statuses_are_all_of_5xx_but_one() {
        for status in (500..600).filter(|status| *status != 501) {
            assert_eq!(class(status, "error code: 522"), Server, "{status}");
            assert_eq!(class(status, r#"{"error":{"code":"invalid_api_key"}}"#), Server, "{status}");
        }
        assert_eq!(class(408, ""), Timeout);
    }

    #[test]
    fn without_a_key_a_403_is_the_requests() {
        assert_eq!(ErrorClass::of(StatusCode::FORBIDDEN, None, false), Request);
        assert_eq!(ErrorClass::of(StatusCode::FORBIDDEN, None, true), Forbidden);
    }
}
