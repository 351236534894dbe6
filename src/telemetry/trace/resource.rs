//! What is said once in each request to a collector: who exports, and by which conventions.

use std::process;

use super::{
    names::Names,
    proto::{Attributes, bytes, field_length, message},
};
use crate::config::{self, Preset};

/// The program's name, as a service and as an instrumentation scope.
const NAME: &str = "sluicegate";

/// Field numbers of `ExportTraceServiceRequest`, `ResourceSpans`, `ScopeSpans`, `Resource` and `InstrumentationScope`, which those for metrics share.
mod field {
    pub(super) const RESOURCES: u32 = 1;
    pub(super) const RESOURCE: u32 = 1;
    pub(super) const SCOPES: u32 = 2;
    pub(super) const SCHEMA_URL: u32 = 3;
    pub(super) const SCOPE: u32 = 1;
    pub(super) const ATTRIBUTES: u32 = 1;
    pub(super) const SCOPE_NAME: u32 = 1;
    pub(super) const SCOPE_VERSION: u32 = 2;
}

/// Everything in a request but its spans or metrics, encoded once.
#[derive(Debug)]
pub struct Envelope {
    /// `Resource`, as a field.
    resource: Vec<u8>,
    /// `InstrumentationScope`, as a field.
    scope: Vec<u8>,
    /// The conventions, as a field of what is around.
    schema: Vec<u8>,
}

impl Envelope {
    /// The envelope of what is exported as this table says.
    pub fn new(otlp: &config::Otlp) -> Self {
        let mut attributes = Vec::new();
        resource(&mut Attributes { out: &mut attributes, tag: field::ATTRIBUTES }, otlp);
        let mut scope = Vec::new();
        bytes(&mut scope, field::SCOPE_NAME, NAME.as_bytes());
        bytes(&mut scope, field::SCOPE_VERSION, env!("CARGO_PKG_VERSION").as_bytes());
        let mut envelope = Self { resource: Vec::new(), scope: Vec::new(), schema: Vec::new() };
        bytes(&mut envelope.resource, field::RESOURCE, &attributes);
        bytes(&mut envelope.scope, field::SCOPE, &scope);
        let schema = Names::of(otlp.semconv).schema_url;
        bytes(&mut envelope.schema, field::SCHEMA_URL, schema.as_bytes());
        envelope
    }

    /// The request that exports `items`: encoded spans or metrics, one field after another.
    pub fn request(&self, items: &[u8]) -> Vec<u8> {
        let scoped = self.scope.len() + items.len() + self.schema.len();
        let whole = self.resource.len() + field_length(scoped) + self.schema.len();
        let mut request = Vec::with_capacity(field_length(whole));
        message(&mut request, field::RESOURCES, whole);
        request.extend_from_slice(&self.resource);
        message(&mut request, field::SCOPES, scoped);
        request.extend_from_slice(&self.scope);
        request.extend_from_slice(items);
        request.extend_from_slice(&self.schema);
        request.extend_from_slice(&self.schema);
        request
    }
}

/// The attributes of the process. Those that the operator has named win over the gateway's own.
fn resource(attributes: &mut Attributes<'_>, otlp: &config::Otlp) {
    let named = |name: &str| otlp.resource.iter().any(|(known, _)| known == name);
    let instance = format!("{:032x}", fastrand::u128(..));
    let project = (otlp.preset == Some(Preset::Phoenix)).then_some(NAME);
    let own = [
        ("service.name", Some(NAME)),
        ("service.version", Some(env!("CARGO_PKG_VERSION"))),
        ("service.instance.id", Some(instance.as_str())),
        ("telemetry.sdk.name", Some(NAME)),
        ("telemetry.sdk.language", Some("rust")),
        ("telemetry.sdk.version", Some(env!("CARGO_PKG_VERSION"))),
        ("openinference.project.name", project),
    ];
    for (name, value) in own {
        attributes.maybe_text(name, value.filter(|_| !named(name)));
    }
    if !named("process.pid") {
        attributes.number("process.pid", process::id().into());
    }
    for (name, value) in &otlp.resource {
        attributes.text(name, value);
    }
}
