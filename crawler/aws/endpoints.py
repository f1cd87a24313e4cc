"""Resolves service endpoints with botocore's endpoint rules, once per service and region.

The rules cover partitions, FIPS and dual-stack. A custom endpoint comes from the settings, or else from AWS_ENDPOINT_URL,
AWS_ENDPOINT_URL_<SERVICE> or the AWS config file, as in every SDK.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

import botocore.exceptions
import botocore.session
from botocore.configprovider import ConfiguredEndpointProvider
from botocore.endpoint_provider import EndpointProvider

from crawler.aws.errors import AwsError
from models.settings import AwsSettings
from models.tables.runs import Cause


@cache
def known_regions() -> frozenset[str]:
    """The regions of all partitions that the installed botocore knows."""
    partitions = botocore.session.Session().get_component("data_loader").load_data("partitions")["partitions"]
    return frozenset(region for partition in partitions for region in partition["regions"])


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint address and its signing parameters."""

    url: str
    """Scheme, host and port, without a trailing slash."""
    host: str
    """The value of the Host header."""
    path: str
    """The path prefix of a custom endpoint; usually empty."""
    signing_region: str
    signing_name: str


class Endpoints:
    """Resolves and caches the endpoints of a process."""

    def __init__(self, settings: AwsSettings, session: botocore.session.Session) -> None:
        self._settings = settings
        self._session = session
        self._loader: Any = session.get_component("data_loader")
        self._providers: dict[str, EndpointProvider] = {}
        self._endpoints: dict[tuple[str, str], Endpoint] = {}

    def find(self, service: str, region: str) -> Endpoint:
        """Return the endpoint of a service in a region; raises :class:`AwsError` if there is none."""
        key = (service, region)
        endpoint = self._endpoints.get(key)
        if endpoint is None:
            endpoint = self._endpoints[key] = self._resolve(service, region)
        return endpoint

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
        configured = self._settings.endpoints.get(service) or self._settings.endpoint_url
        if configured:
            return configured
        if self._session.get_config_variable("ignore_configured_endpoint_urls"):
            return None
        provider = ConfiguredEndpointProvider(
            full_config=self._session.full_config,
            scoped_config=self._session.get_scoped_config(),
            client_name=service,
            environ=os.environ,
        )
        url: str | None = provider.provide()
        return url

    def _provider(self, service: str) -> EndpointProvider:
        provider = self._providers.get(service)
        if provider is None:
            rules = self._loader.load_service_model(service, "endpoint-rule-set-1")
            provider = EndpointProvider(rules, self._loader.load_data("partitions"))
            self._providers[service] = provider
        return provider
