"""The provider's routes, and beside them those of ours."""

import hashlib
import json
from datetime import timedelta

from django.contrib.auth.models import User
from django.contrib.auth.views import LoginView
from django.http import JsonResponse
from django.urls import include, path
from django.utils.timezone import now
from django.views.decorators.csrf import csrf_exempt
from oauth2_provider.models import AccessToken, RefreshToken


def api(request):
    bearer = request.headers.get("Authorization", "").removeprefix("Bearer ")
    token = AccessToken.objects.filter(token_checksum=hashlib.sha256(bearer.encode()).hexdigest()).first()
    if token is None or token.is_expired():
        return JsonResponse({"error": "invalid_token"}, status=401)
    return JsonResponse({"sub": str(token.user.pk)})


@csrf_exempt
def users(request):
    for username, claims in json.loads(request.body).items():
        user = User.objects.get(username=username)
        user.first_name = claims.get("name", user.first_name)
        user.email = claims.get("email", user.email)
        user.save()
    return JsonResponse({})


@csrf_exempt
def revoke(request):
    of_user = {"user__username": json.loads(request.body)["user"]}
    for token in RefreshToken.objects.filter(revoked=None, **of_user):
        token.revoke()
    AccessToken.objects.filter(**of_user).delete()
    return JsonResponse({})


@csrf_exempt
def expire(request):
    # A refresh token's time is over as long after its access token's as REFRESH_TOKEN_EXPIRE_SECONDS says.
    of_user = {"user__username": json.loads(request.body)["user"]}
    AccessToken.objects.filter(**of_user).update(expires=now() - timedelta(days=1))
    return JsonResponse({})


urlpatterns = [
    path("o/", include("oauth2_provider.urls")),
    path("login/", LoginView.as_view()),
    path("_api", api),
    path("_users", users),
    path("_revoke", revoke),
    path("_expire", expire),
]
