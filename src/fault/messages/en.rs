//! English.

use crate::fault::Fault;

/// Each text says what happened, which setting or header is concerned, and what to do next.
pub(super) fn template(fault: &Fault) -> &'static str {
    match fault {
        Fault::NoRoute { .. } => {
            "No route for {method} {path} on this gateway. Check the base URL and the path of the request."
        }
        Fault::MethodNotAllowed { .. } => {
            "{method} is not allowed for this path. Use one of these methods: {allowed}."
        }
        Fault::MethodUnsupported(_) => "{method} is not supported by this gateway. Use another method.",
        Fault::UpgradeUnsupported => {
            "Protocol upgrades such as WebSocket are not supported by this gateway. \
             Send the request without an Upgrade header."
        }
        Fault::BadPath(_) => "The request was rejected: {reason}. Correct the URL of the request.",
        Fault::BadRequest(_) => "The request was rejected: {reason}. Correct the request.",
        Fault::TooManyHeaders(_) => {
            "The request has more than {limit} header lines, the limit of this gateway. Send fewer headers."
        }
        Fault::KeyMissing => {
            "You didn't provide an API key. Send your gateway key in an Authorization header: \
             `Authorization: Bearer YOUR_KEY`."
        }
        Fault::KeyUnknown => {
            "Incorrect API key provided. This gateway has its own keys. Ask the operator of this gateway for one."
        }
        Fault::KeyMalformed(_) => {
            "The request was rejected: {reason}. Send `Authorization: Bearer YOUR_KEY`."
        }
        Fault::KeysConflict(_) => "The request was rejected: {reason}. Send one key, in one header.",
        Fault::RouteForbidden => {
            "Your API key is not allowed to use this route. Ask the operator of this gateway for access."
        }
        Fault::ModelForbidden(_) => {
            "Your API key is not allowed to use the model `{model}`. \
             Use another model, or ask the operator of this gateway for access."
        }
        Fault::ModelUnknown => {
            "Your API key is limited to some models, and this request does not name its model in a JSON body. \
             Send a JSON object with a `model` member."
        }
        Fault::BodyTooLarge { .. } => {
            "The request body is larger than {limit} bytes, the limit of this route. Send a smaller request."
        }
        Fault::BodyInvalid(_) => "The request was rejected: {reason}. Correct the request body.",
        Fault::BodyNotEditable(_) => "The request was rejected: {reason}. Send a JSON object.",
        Fault::BodyStalled(_) => {
            "The request body stopped arriving: no data was received for {seconds} s. \
             Check the client's connection and send the request again."
        }
        Fault::BodyBroken(_) => {
            "The request body ended before it was complete. Check the client's connection and send the request again."
        }
        Fault::Overloaded => {
            "The gateway is overloaded: the request bodies that it holds have reached its memory limit. \
             Try again in a moment."
        }
        Fault::NoDescriptors(_) => {
            "The gateway is overloaded: it cannot open another connection. Try again in a moment."
        }
        Fault::Draining => "The gateway is shutting down. Send the request again.",
        Fault::TotalTimeout(_) => {
            "The request took longer than its total timeout of {seconds} s. \
             Request a shorter response, or set a longer timeout."
        }
        Fault::Connect(_) => "The gateway could not connect to the upstream. Try again in a moment.",
        Fault::ConnectTimeout(_) => {
            "The gateway could not connect to the upstream within the connect timeout of {seconds} s. \
             Try again in a moment."
        }
        Fault::FirstByteTimeout(_) => {
            "The upstream did not respond within the first_byte timeout of {seconds} s. \
             Try again later, or set a longer timeout."
        }
        Fault::FirstTokenTimeout(_) => {
            "The response of the upstream had no content within the first_token timeout of {seconds} s. \
             Try again later, or set a longer timeout."
        }
        Fault::Unavailable(_) => "No upstream is available at the moment. Try again in {seconds} s.",
        Fault::Full(_) => "All upstreams are at their concurrency limit. Try again in {seconds} s.",
        Fault::RateLimited(_) => "The rate limit of the upstream is reached. Try again in {seconds} s.",
        Fault::NoAnswer(_) => "The upstream closed the connection without a response. Try again in a moment.",
        Fault::BadAnswer(_) => {
            "The response of the upstream cannot be used: {reason}. Contact the operator of this gateway."
        }
        Fault::UpstreamAuth(_) => {
            "The upstream rejected the gateway's own credentials: {reason}. Contact the operator of this gateway."
        }
        Fault::Withheld(_) => {
            "The upstream responded with status {status}. Its message is withheld, because it could expose a \
             credential. Contact the operator of this gateway."
        }
        Fault::AnswerTooLarge { .. } => {
            "The response of the upstream is larger than {limit} bytes, the limit of this route. \
             Request a shorter response."
        }
        Fault::Truncated(_) => {
            "The upstream ended its response early. The response is incomplete. Send the request again."
        }
        Fault::Idle(_) => {
            "The upstream sent nothing for {seconds} s, its idle timeout. The response is incomplete. \
             Send the request again."
        }
        Fault::CallerStalled => {
            "The client stopped reading the response. The response is incomplete. \
             Send the request again and read the response as it arrives."
        }
        Fault::CutByDrain => {
            "The gateway is shutting down. The response is incomplete. Send the request again."
        }
        Fault::Internal(_) => {
            "The gateway failed to handle the request. Contact the operator of this gateway, and name the \
             x-request-id of the response."
        }
    }
}
