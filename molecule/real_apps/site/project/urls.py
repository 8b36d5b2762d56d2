from django.contrib import admin
from django.contrib.auth.models import User
from django.core.files.storage import default_storage
from django.http import HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import RedirectView


@csrf_exempt  # its client is a test
def upload(request):
    """Keep a file that somebody sends in a form."""
    file = request.FILES["file"]
    return HttpResponse(default_storage.url(default_storage.save(file.name, file)))


def people(_request):
    """Say how many there are, which needs the tables of the database."""
    return HttpResponse(f"{User.objects.count()} people")


urlpatterns = [
    path("", RedirectView.as_view(url="/people/")),
    path("people/", people),
    path("admin/", admin.site.urls),
    path("upload", upload),
]
