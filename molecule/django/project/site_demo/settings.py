"""Settings from the environment, so that a release directory holds no secret and no data.

DJANGO_SECRET_KEY     required
DJANGO_DB_PATH        required, path of the SQLite file
DJANGO_ALLOWED_HOSTS  optional, comma-separated host names
"""

import os

from django.core.exceptions import ImproperlyConfigured


def required(name: str) -> str:
    """Return the environment variable `name`, or refuse to start without it."""
    value = os.environ.get(name, "")
    if not value:
        raise ImproperlyConfigured(f"The environment variable {name} is missing or empty: set it for this app.")
    return value


SECRET_KEY = required("DJANGO_SECRET_KEY")
DEBUG = False

# nginx already sends only the site's own domains here, hence the open default.
ALLOWED_HOSTS = os.environ.get("DJANGO_ALLOWED_HOSTS", "*").split(",")

# Contenttypes and auth are here to give `migrate` real tables to make.
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
MIDDLEWARE = ["django.middleware.security.SecurityMiddleware", "django.middleware.common.CommonMiddleware"]

ROOT_URLCONF = "site_demo.urls"
WSGI_APPLICATION = "site_demo.wsgi.application"

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.sqlite3",
        # No default: a database inside the release would vanish with the next deploy.
        "NAME": required("DJANGO_DB_PATH"),
        # Seconds to wait for a lock: two releases share the file during a switch.
        "OPTIONS": {"timeout": 20},
    }
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

TIME_ZONE = "UTC"
USE_TZ = True
