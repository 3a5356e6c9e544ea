"""The official client's reading of a kubeconfig's cluster and user, where kubectl does more. Used by `access`.

Each method states what release 37 of the library does otherwise; tests/integration/cli proves what is left, so that a
method can go when a later release makes it superfluous.
"""

import base64
import datetime
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import certifi
import requests
import urllib3
from kubernetes.client.exceptions import ApiException
from kubernetes.config import ConfigException
from kubernetes.config.kube_config import EXPIRY_SKEW_PREVENTION_DELAY, ConfigNode, FileOrData, KubeConfigLoader
from oauthlib.oauth2 import OAuth2Error

from modeldeploy.kube.errors import KubeconfigError
from modeldeploy.kube.exec_plugin import Credential, ask

#: How long the content of a token file is used, as by client-go.
_TOKEN_FILE_LIFE = datetime.timedelta(minutes=1)


class Loader(KubeConfigLoader):  # type: ignore[misc]
    """Sets a Configuration from one context. Raises `KubeconfigError` and the library's `ConfigException`."""

    def _load_auth_provider_token(self) -> Any:
        """Refuse providers other than oidc, as kubectl does since 1.26: the library would go on as nobody."""
        provider = self._user.safe_get("auth-provider")
        if not provider:
            return None
        if provider.get("name") != "oidc":
            problem = f"auth-provider {provider.get('name')!r} is not supported; write oidc, or use an exec plugin"
            raise KubeconfigError(f"{self._who}: {problem}")
        return super()._load_auth_provider_token()

    def _load_oid_token(self, provider: Any) -> Any:
        """Get the first id-token with the refresh-token, and refuse what is no JWT: the library goes on as nobody."""
        if not provider["config"].safe_get("id-token"):
            self._refresh_oidc(provider)
            self._config_persister()
        try:
            token = super()._load_oid_token(provider)
        except ValueError:
            token = None
        if not token:
            raise KubeconfigError(f"{self._who}: the id-token of its auth-provider is no JSON Web Token")
        return token

    def _refresh_oidc(self, provider: Any) -> None:
        """Refresh the token. The provider's certificate is always verified; errors become `KubeconfigError`."""
        config = provider["config"].value
        asked = {"client-secret": "", **config, "idp-issuer-url": str(config.get("idp-issuer-url", "")).rstrip("/")}
        if authority := config.get("idp-certificate-authority"):
            asked["idp-certificate-authority"] = str(self._user_folder / authority)
        elif not config.get("idp-certificate-authority-data"):
            # Without one the library asks an unverified server where to send the refresh token.
            asked["idp-certificate-authority"] = ssl.get_default_verify_paths().cafile or certifi.where()
        old, problem = config.get("id-token"), f"no new token from {asked['idp-issuer-url']}"
        try:
            super()._refresh_oidc(ConfigNode(provider.name, {"config": asked}))
        except OAuth2Error as error:
            raise KubeconfigError(f"{self._who}: {problem}: {error}; log in again") from error
        except (ApiException, urllib3.exceptions.HTTPError, requests.RequestException, OSError) as error:
            raise KubeconfigError(f"{self._who}: {problem}: {' '.join(str(error).split())}") from error
        except (ValueError, KeyError) as error:
            raise KubeconfigError(f"{self._who}: {problem}: its answer is not that of an OpenID provider") from error
        if asked.get("id-token") in (None, old):
            raise KubeconfigError(f"{self._who}: {problem}; log in again")
        config.update({name: asked[name] for name in ("id-token", "refresh-token")})

    def _load_user_token(self) -> Any:
        """Take a token file before a token, without the white space around it, and read it again each minute."""
        token = self._user.safe_get("token")
        if name := self._user.safe_get("tokenFile"):
            file = self._user_folder / name
            try:
                token = file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError) as error:
                raise KubeconfigError(f"{self._who}: tokenFile {file} cannot be read: {_why(error)}") from error
            if not token:
                raise KubeconfigError(f"{self._who}: tokenFile {file} is empty")
            self.expiry = datetime.datetime.now(datetime.UTC) + EXPIRY_SKEW_PREVENTION_DELAY + _TOKEN_FILE_LIFE
        if not token:
            return None
        self.token = f"Bearer {token}"
        return True

    def _load_from_exec_plugin(self) -> Any:
        """Say why a plugin gave no credential, and take token and certificate: the library goes on as nobody."""
        if not self._user.safe_get("exec"):
            return None
        self._take(ask(self._user["exec"], self._cluster, self._who, self._user_folder))
        return True

    def _take(self, credential: Credential) -> None:
        if credential.token:
            self.token = f"Bearer {credential.token}"
        if credential.certificate:
            pair = {"certificate": credential.certificate, "key": credential.key}
            self.cert_file, self.key_file = (
                FileOrData(pair, None, data_key_name=name, base64_file_content=False).as_file() for name in pair
            )
        if credential.expiry:
            self.expiry = credential.expiry

    def _load_user_pass_token(self) -> Any:
        """Encode name and password as UTF-8 (the library: Latin-1)."""
        if not self._user.safe_get("username"):
            return None
        pair = f"{self._user['username']}:{self._user.safe_get('password') or ''}".encode()
        self.token = f"Basic {base64.b64encode(pair).decode()}"
        return True

    def _load_cluster_info(self) -> None:
        """Check the server's URL, and look for a user's files beside the user's kubeconfig, not the cluster's."""
        cluster = f"cluster {self._current_context['context']['cluster']!r}"
        server = str(self._cluster.safe_get("server") or "")
        if not server:
            raise KubeconfigError(f"{cluster} has no server in the kubeconfig")
        if not server.startswith(("http://", "https://")) or not _has_host(server):
            raise KubeconfigError(f"{cluster}: server {server!r} is no http:// or https:// URL")
        if self._user and server.startswith("https://") and "cert_file" not in vars(self):
            self.cert_file = self._file(self._user, "client-certificate", self._who, self._user_folder)
            self.key_file = self._file(self._user, "client-key", self._who, self._user_folder)
        self._file(self._cluster, "certificate-authority", cluster, Path(self._cluster.path).parent)
        super()._load_cluster_info()

    def _file(self, entry: Any, name: str, who: str, folder: Path) -> str | None:
        """Return a file with what stands there, inline or by name."""
        try:
            path: str | None = FileOrData(entry, name, file_base_path=str(folder.absolute())).as_file()
            if path:
                Path(path).read_bytes()
        except ConfigException:
            raise KubeconfigError(
                f"{who}: {name} {folder / entry[name]} cannot be read: No such file or directory"
            ) from None
        except OSError as error:
            raise KubeconfigError(f"{who}: {name} {error.filename} cannot be read: {error.strerror}") from error
        except ValueError as error:
            raise KubeconfigError(f"{who}: {name}-data is not base64") from error
        return path

    @property
    def _who(self) -> str:
        return f"user {self._current_context['context'].safe_get('user')!r}"

    @property
    def _user_folder(self) -> Path:
        return Path(self._user.path).absolute().parent


def _has_host(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _why(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
