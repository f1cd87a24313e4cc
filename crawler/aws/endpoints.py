"""Where a service is in a region: botocore's endpoint rules, asked once per service and region.

Partitions, FIPS and dual-stack come from the rules; a custom endpoint from the settings, else from AWS_ENDPOINT_URL,
AWS_ENDPOINT_URL_<SERVICE> or the AWS config file, as for every SDK.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import botocore.exceptions
import botocore.session
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.endpoint_provider import EndpointProvider

from crawler.aws.errors import AwsError
from models.settings import AwsSettings
from models.tables.runs import Cause


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address and how requests to it are signed."""

    url: str
    """Scheme, host and port, without a slash at the end."""
    host: str
    """As in the Host header."""
    path: str
    """A path that a custom endpoint starts with; usually empty."""
    signing_region: str
    signing_name: str


class Endpoints:
    """The endpoints of one process."""

    def __init__(self, settings: AwsSettings, session: botocore.session.Session) -> None:
        self._settings = settings
        self._session = session
        self._loader: Any = session.get_component("data_loader")
        self._providers: dict[str, EndpointProvider] = {}
        self._found: dict[tuple[str, str], Endpoint] = {}

    def find(self, service: str, region: str) -> Endpoint:
        """The endpoint of a service in a region; :class:`AwsError` when there is none."""
        key = (service, region)
        found = self._found.get(key)
        if found is None:
            found = self._found[key] = self._resolve(service, region)
        return found

    def _resolve(self, service: str, region: str) -> Endpoint:
        parameters: dict[str, Any] = {
            "Region": region,
            "UseFIPS": self._settings.use_fips,
            "UseDualStack": self._settings.use_dualstack,
        }
        custom = self._custom(service)
        if custom:
            parameters["Endpoint"] = custom
        try:
            resolved = self._provider(service).resolve_endpoint(**parameters)
        except botocore.exceptions.EndpointProviderError as error:
            raise AwsError(
                Cause.UNSUPPORTED, "NoEndpoint", f"{service} has no endpoint in {region}: {error}"
            ) from error
        parts = urlsplit(resolved.url)
        scheme: dict[str, str] = next(iter(resolved.properties.get("authSchemes") or ()), {})
        model = self._session.get_service_model(service)
        return Endpoint(
            f"{parts.scheme}://{parts.netloc}",
            parts.netloc,
            parts.path.rstrip("/"),
            scheme.get("signingRegion") or region,
            scheme.get("signingName") or model.signing_name,
        )

    def _custom(self, service: str) -> str | None:
        stated = self._settings.endpoints.get(service) or self._settings.endpoint_url
        if stated:
            return stated
        if self._session.get_config_variable("ignore_configured_endpoint_urls"):
            return None
        provider = ConfiguredEndpointProvider(
            full_config=self._session.full_config,
            scoped_config=self._session.get_scoped_config(),
            client_name=service,
            environ=os.environ,
        )
        found: str | None = provider.provide()
        return found

    def _provider(self, service: str) -> EndpointProvider:
        found = self._providers.get(service)
        if found is None:
            rules = self._loader.load_service_model(service, "endpoint-rule-set-1")
            found = EndpointProvider(rules, self._loader.load_data("partitions"))
            self._providers[service] = found
        return found
