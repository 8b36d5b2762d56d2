"""A minimal Django project: proof that the host serves any WSGI callable."""
