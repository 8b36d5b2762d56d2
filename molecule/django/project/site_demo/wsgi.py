"""The WSGI callable, `site_demo.wsgi:application`."""

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_demo.settings")

application = get_wsgi_application()
