//! Traces for OpenTelemetry, sent to where the usual variables of the environment say.

use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::trace::{SdkTracerProvider, Tracer};
use opentelemetry_sdk::Resource;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::Layer;

use super::exit::Failure;
use crate::{Error, ErrorCode};

/// Either of these says that traces are wanted, and where they go.
const ENDPOINT_VARIABLES: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

/// What the service is called unless this says otherwise.
const NAME_VARIABLE: &str = "OTEL_SERVICE_NAME";

/// Sends what is left when it is dropped.
pub(super) struct Traces(SdkTracerProvider);

impl Traces {
    /// Begins to send spans, if the environment says where to; on threads of its own.
    pub(super) fn start() -> Result<Option<Traces>, Failure> {
        if ENDPOINT_VARIABLES.iter().all(|name| std::env::var_os(name).is_none_or(|value| value.is_empty())) {
            return Ok(None);
        }
        let exporter = SpanExporter::builder().with_http().build().map_err(|error| {
            Error::new(
                ErrorCode::InvalidConfig,
                format!("traces cannot be sent as the environment (OTEL_…) says: {error}"),
            )
        })?;
        let resource = match std::env::var_os(NAME_VARIABLE) {
            Some(_) => Resource::builder().build(),
            None => Resource::builder().with_service_name("sstore").build(),
        };
        let provider = SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build();
        Ok(Some(Traces(provider)))
    }

    /// What hands the server's spans to it.
    pub(super) fn layer<S>(&self) -> impl Layer<S>
    where
        S: tracing::Subscriber + for<'span> LookupSpan<'span>,
    {
        let tracer: Tracer = self.0.tracer("sessionstore");
        let spans = tracing_opentelemetry::layer().with_tracer(tracer);
        // Where in our source a span begins, and on which thread, is of no use to operators, and costs.
        let spans = spans.with_location(false).with_threads(false).with_tracked_inactivity(false);
        spans.with_filter(Targets::new().with_target("sessionstore::trace", LevelFilter::TRACE))
    }
}

impl Drop for Traces {
    fn drop(&mut self) {
        // Nobody is left to be told when they cannot be sent.
        let _ = self.0.shutdown();
    }
}
