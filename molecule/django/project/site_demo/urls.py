"""Two pages: one for the health check, one that shows what is running."""

import os
import sys

import django
from django.db import connection
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, JsonResponse
from django.urls import path


def index(_request: HttpRequest) -> JsonResponse:
    """Say which Django runs from which virtualenv, and how many migrations its database holds."""
    return JsonResponse(
        {
            "framework": "Django",
            "version": django.get_version(),
            "release": os.environ.get("RELEASE_ID", "development"),
            "prefix": sys.prefix,
            "migrations": len(MigrationRecorder(connection).applied_migrations()),
        }
    )


def healthz(_request: HttpRequest) -> JsonResponse:
    """Answer the health check without the database: it asks whether the worker is alive."""
    return JsonResponse({"status": "ok"})


urlpatterns = [
    path("", index),
    path("healthz", healthz),
]
