"""Traces of an app, which every worker sends for itself. Shown in docs/monitoring.md."""

import os
import threading

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


class Traced:
    """The same app, traced.

    What sends the spans is a thread, and threads do not outlive the fork that makes a worker. So it starts with the
    first request of each worker, whether the app was loaded before the fork or after it.
    """

    def __init__(self, app):
        self.app, self.lock, self.process = OpenTelemetryMiddleware(app), threading.Lock(), None

    def start(self):
        about = {"service.version": os.environ["RELEASE_ID"], "service.instance.id": str(os.getpid())}
        provider = TracerProvider(resource=Resource.create(about))
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)

    def __call__(self, environ, start_response):
        with self.lock:
            if self.process != os.getpid():
                self.start()
                self.process = os.getpid()
        return self.app(environ, start_response)
