//! The bodies are providers' own, as public issues quote them (the tables say which), without the names of accounts.

use super::{ErrorClass::*, *};

type Errors = &'static [(u16, &'static str)];

const THE_NO_CREDIT: Errors = &[
    (
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"You have reached your specified API usage limits. You will regain access on 2026-04-01 at 00:00 UTC."},"request_id":"r"}"#,
    ),
    (
        429,
        r#"{"error":{"code":429,"message":"Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing.","status":"RESOURCE_EXHAUSTED"}}"#,
    ),
    (
        429,
        r#"{"error":{"message":"You exceeded your current quota, please check your plan and billing details.","type":"insufficient_quota","param":null,"code":"insufficient_quota"}}"#,
    ),
    (
        429,
        r#"{"error":{"message":"…","type":"insufficient_quota","param":null,"code":"credit_balance_exhausted"}}"#,
    ),
    (
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase credits."},"request_id":"r"}"#,
    ),
    (402, r#"{"type":"error","error":{"type":"billing_error","message":"…"}}"#),
    (
        402,
        r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"Insufficient Balance","type":"unknown_error","param":null,"code":"invalid_request_error"}}"#,
    ),
    (
        402,
        r#"{"error":{"message":"This request requires more credits, or fewer max_tokens. You requested up to 32000 tokens, but can only afford 0. To increase, visit https://openrouter.ai/settings/keys","code":402}}"#,
    ),
    (
        403,
        r#"{"error":{"message":"Key limit exceeded. Manage it using https://openrouter.ai/keys","code":403}}"#,
    ),
    (
        429,
        r#"{"code":"Some resource has been exhausted","error":"Your team t has either used all available credits or reached its monthly spending limit. To continue making API requests, please purchase more credits or raise your spending limit."}"#,
    ),
    (
        403,
        r#"{"code":"The caller does not have permission to execute the specified operation","error":"Your newly created teams doesn't have any credits yet. You can purchase credits on https://console.x.ai/team/t."}"#,
    ),
    (
        403,
        r#"{"code":"c","error":"Your newly created team doesn't have any credits or licenses yet. You can purchase those on https://console.x.ai/team/t."}"#,
    ),
    (
        412,
        r#"{"error":{"message":"Account a is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices. Please go to https://fireworks.ai/account/billing for more information.","param":null,"code":"PRECONDITION_FAILED","type":"error"},"request_id":"r"}"#,
    ),
    (
        429,
        r#"{"error":{"message":"You have no credits remaining. Add credits to continue using the API at https://platform.openai.com/settings/organization/billing/."}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"Insufficient credits. This account never purchased credits.","code":400}}"#,
    ),
    (403, r#"{"code":"c","error":"You have run out of credits or need a Grok subscription."}"#),
    (
        429,
        r#"{"error":{"message":"Your account o <ak-f> is suspended due to insufficient balance, please recharge your account or check your plan and billing details","type":"exceeded_current_quota_error"}}"#,
    ),
];

const THE_REFUSED: Errors = &[
    (
        401,
        r#"{"error":{"message":"Incorrect API key provided: sk-…","type":"invalid_request_error","param":null,"code":"invalid_api_key"}}"#,
    ),
    (401, r#"{"type":"error","error":{"type":"authentication_error","message":"invalid x-api-key"}}"#),
    (
        400,
        r#"[{"error":{"code":400,"message":"API key not valid. Please pass a valid API key.","status":"INVALID_ARGUMENT","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID","domain":"googleapis.com"}]}}]"#,
    ),
    (
        403,
        r#"{"error":{"code":403,"message":"Permission denied: Consumer 'api_key:A' has been suspended.","status":"PERMISSION_DENIED","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"CONSUMER_SUSPENDED"}]}}"#,
    ),
    (
        403,
        r#"{"error":{"code":403,"message":"Your API key was reported as leaked. Please use another API key.","status":"PERMISSION_DENIED"}}"#,
    ),
    (
        400,
        r#"{"code":"Client specified an invalid argument","error":"Incorrect API key provided: gs***tF. You can obtain an API key from https://console.x.ai."}"#,
    ),
    (
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"This organization has been disabled."},"request_id":"r"}"#,
    ),
    (
        401,
        r#"{"error":{"code":"401","message":"Access denied due to invalid subscription key or wrong API endpoint."}}"#,
    ),
    (401, r#"{"detail":"Unauthorized"}"#),
    (401, r#"{"error":{"message":"User not found.","code":401}}"#),
    (401, ""),
    (
        400,
        r#"{"error":{"message":"Organization has been restricted. Please reach out to support if you believe this was in error.","type":"invalid_request_error","code":"organization_restricted"}}"#,
    ),
];

const THE_UNFIT: Errors = &[
    (
        429,
        r#"{"type":"error","error":{"type":"rate_limit_error","message":"Extra usage is required for long context requests."},"request_id":"r"}"#,
    ),
    (
        402,
        r#"{"error":{"message":"This request requires more credits, or fewer max_tokens. You requested up to 64000 tokens, but can only afford 2666. To increase, visit https://openrouter.ai/settings/credits","code":402,"metadata":{"provider_name":null}},"user_id":"u"}"#,
    ),
    (
        401,
        r#"{"error":{"message":"You have insufficient permissions for this operation. Missing scopes: model.request.","type":"invalid_request_error","param":null,"code":"missing_scope"}}"#,
    ),
    (
        401,
        r#"{"error":{"code":"PermissionDenied","message":"Principal does not have access to API/Operation."}}"#,
    ),
];

const THE_REQUEST: Errors = &[
    (
        403,
        r#"{"error":{"message":"Project `p` does not have access to model `gpt-4o`","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
    ),
    (
        403,
        r#"{"error":{"message":"m requires moderation on p. Your input was flagged for \"violence\".","code":403,"metadata":{"reasons":["violence"],"flagged_input":"x"}}}"#,
    ),
    (
        403,
        r#"{"error":{"message":"Country, region, or territory not supported","type":"request_forbidden","param":null,"code":"unsupported_country_region_territory"}}"#,
    ),
    (
        403,
        r#"{"code":"The caller does not have permission to execute the specified operation","error":"Content violates usage guidelines."}"#,
    ),
    (
        413,
        r#"{"type":"error","error":{"type":"request_too_large","message":"Request exceeds the maximum size"}}"#,
    ),
    (
        400,
        r#"{"error":{"message":"Invalid value: 'credit balance is too low'.","type":"invalid_request_error","param":"messages[0].role","code":"invalid_value"}}"#,
    ),
    (
        400,
        r#"{"error":{"code":400,"message":"User location is not supported for the API use.","status":"FAILED_PRECONDITION"}}"#,
    ),
    (
        404,
        r#"{"error":{"message":"The model `m` does not exist","type":"invalid_request_error","param":null,"code":"model_not_found"}}"#,
    ),
    // What a request may have put there.
    (
        400,
        r#"{"error":{"message":"Account number 1 of your text is suspended, possibly due to reaching the monthly spending limit"}}"#,
    ),
    (412, r#"{"error":{"message":"The file has changed","code":"PRECONDITION_FAILED"}}"#),
    (422, r#"{"detail":[{"type":"missing","loc":["body","messages"]}]}"#),
    (501, ""),
];

const THE_FORBIDDEN: Errors = &[
    (
        403,
        r#"{"error":{"code":403,"message":"The caller does not have permission","status":"PERMISSION_DENIED"}}"#,
    ),
    (
        403,
        r#"{"type":"error","error":{"type":"permission_error","message":"Your API key does not have permission to use the specified resource."}}"#,
    ),
    (403, "<!DOCTYPE html><title>Attention Required! | Cloudflare</title>"),
];

const THE_LIMITED: Errors = &[
    (
        429,
        r#"{"error":{"message":"Rate limit reached for gpt-4o in organization o on tokens per min (TPM): Limit 30000, Used 29000, Requested 1443. Please try again in 4.77s.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
    ),
    (
        429,
        r#"[{"error":{"code":429,"message":"You exceeded your current quota, please check your plan and billing details.","status":"RESOURCE_EXHAUSTED","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"34s"}]}}]"#,
    ),
    (
        429,
        r#"{"error":{"code":"429","message":"Requests to the ChatCompletions_Create Operation have exceeded token rate limit."}}"#,
    ),
    (
        429,
        r#"{"object":"error","message":"Rate limit exceeded","type":"rate_limited","param":null,"code":"1300","raw_status_code":429}"#,
    ),
];

const THE_TOO_LARGE: Errors = &[
    (
        429,
        r#"{"error":{"message":"Request too large for gpt-4o in organization o on tokens per min (TPM): Limit 30000, Requested 30601. The input or output tokens must be reduced in order to run successfully.","type":"tokens","param":null,"code":"rate_limit_exceeded"}}"#,
    ),
    (
        413,
        r#"{"error":{"message":"Request too large for model `llama-3.3-70b-versatile` in organization `o` service tier `on_demand` on tokens per minute (TPM): Limit 12000, Requested 14137, please reduce your message size and try again.","type":"tokens","code":"rate_limit_exceeded"}}"#,
    ),
    (429, r#"{"error":{"message":"Rate limit of 5 reached: Limit 5, Requested 9.","type":"requests"}}"#),
];

const THE_SERVER: Errors = &[(
    429,
    r#"{"error":{"message":"The engine is currently overloaded, please try again later","type":"engine_overloaded_error"}}"#,
)];

const THE_TOO_LONG: Errors = &[
    (
        400,
        r#"{"error":{"message":"…","type":"invalid_request_error","param":"messages","code":"context_length_exceeded"}}"#,
    ),
    (
        400,
        r#"{"object":"error","message":"This model's maximum context length is 32768 tokens. However, you requested 41648 tokens","type":"BadRequestError","param":null,"code":400}"#,
    ),
    (
        400,
        r#"{"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 213462 tokens > 200000 maximum"}}"#,
    ),
    (
        400,
        r#"{"error":{"code":400,"message":"request (9000 tokens) exceeds the available context size (4096 tokens), try increasing it","type":"exceed_context_size_error","n_ctx":4096}}"#,
    ),
];

fn class(status: u16, body: &str) -> ErrorClass {
    let error = ErrorBody::read(body.as_bytes());
    ErrorClass::of(StatusCode::from_u16(status).unwrap(), error.as_ref(), true)
}

#[test]
fn providers_are_understood() {
    for (expected, errors) in [
        (NoCredit, THE_NO_CREDIT),
        (KeyRefused, THE_REFUSED),
        (KeyUnfit, THE_UNFIT),
        (Request, THE_REQUEST),
        (Forbidden, THE_FORBIDDEN),
        (RateLimited, THE_LIMITED),
        (TooLargeForLimit, THE_TOO_LARGE),
        (Server, THE_SERVER),
        (ContextTooLong, THE_TOO_LONG),
    ] {
        for (status, body) in errors {
            assert_eq!(class(*status, body), expected, "{status} {body}");
        }
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

/// The statuses are invented; the words are those of the table of accounts without credit.
#[test]
fn a_failure_of_the_server_that_names_an_empty_account_is_the_accounts() {
    for body in [
        r#"{"error":{"message":"…","type":"insufficient_quota","param":null,"code":null}}"#,
        r#"{"error":{"message":"…","type":"new_api_error","code":"insufficient_user_quota"}}"#,
        r#"{"type":"error","error":{"type":"billing_error","message":"…"}}"#,
    ] {
        for status in [500, 502, 503] {
            assert_eq!(class(status, body), NoCredit, "{status} {body}");
        }
    }
    // A message alone may repeat anything.
    for message in ["Insufficient Balance", "Your credit balance is too low", "insufficient_quota"] {
        let body = format!(r#"{{"error":{{"message":"{message}","type":"server_error"}}}}"#);
        assert_eq!(class(500, &body), Server, "{body}");
    }
}

#[test]
fn without_a_key_a_403_is_the_requests() {
    assert_eq!(ErrorClass::of(StatusCode::FORBIDDEN, None, false), Request);
    let refused = ErrorBody::read(br#"{"error":{"message":"no","code":"invalid_api_key"}}"#);
    for body in [None, refused.as_ref()] {
        assert_eq!(ErrorClass::of(StatusCode::UNAUTHORIZED, body, false), Request);
    }
    assert_eq!(ErrorClass::of(StatusCode::FORBIDDEN, None, true), Forbidden);
}
