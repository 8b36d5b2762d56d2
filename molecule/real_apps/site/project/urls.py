from django.contrib import admin
from django.core.files.storage import default_storage
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt


@csrf_exempt  # its client is a test
def upload(request):
    """Keep a file that somebody sends in a form."""
    file = request.FILES["file"]
    return HttpResponse(default_storage.url(default_storage.save(file.name, file)))


urlpatterns = [path("admin/", admin.site.urls), path("upload", upload)]
