"""What a build needs to reach package servers from this host: certificates, mirrors, indexes,
proxies. They lie in the folder `.host` of a build's context, and in no finished image but for the
certificates. Blocking.
"""

import configparser
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

BUNDLES = ("etc/ssl/certs/ca-certificates.crt", "etc/pki/tls/certs/ca-bundle.crt")
PUBLIC_CERTIFICATES = "usr/share/ca-certificates"
PROXIES = ("http_proxy", "https_proxy", "no_proxy")
PIP_FILES = ("etc/xdg/pip/pip.conf", "etc/pip.conf")
PIP_OPTIONS = ("index-url", "extra-index-url", "trusted-host")
NPM_FILES = ("usr/etc/npmrc", "etc/npmrc")
SUITES = ("bookworm", "bookworm-updates", "bookworm-security")
DEBIAN = "http://deb.debian.org/debian"

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_APT_PROXY = re.compile(r'^\s*Acquire::https?::[\w:.-]*Proxy\S*\s+"[^"]*";', re.MULTILINE | re.I)
_ONE_LINE = re.compile(r"^deb\s+(?:\[[^\]]*\]\s+)?(\S+)\s+(\S+)\s+(.*)$", re.MULTILINE)
_URL = re.compile(r"https?://")
_ARCHIVE = re.compile(r"https?://\S+/debian(-security)?/?")

# Read by every RUN that talks to a server. Nothing of it lasts longer than that RUN.
USE = """\
host=/tmp/host
for variable in SSL_CERT_FILE PIP_CERT REQUESTS_CA_BUNDLE CURL_CA_BUNDLE GIT_SSL_CAINFO \\
    NODE_EXTRA_CA_CERTS npm_config_cafile; do
    [ -f $host/ca-bundle.crt ] && export $variable=$host/ca-bundle.crt
done
[ -f $host/apt.conf ] && export APT_CONFIG=$host/apt.conf
[ -f $host/pip.conf ] && export PIP_CONFIG_FILE=$host/pip.conf
[ -f $host/npmrc ] && export npm_config_userconfig=$host/npmrc
host_trust_into_image() {
    [ -d $host/ca ] && cp $host/ca/*.crt /usr/local/share/ca-certificates/
    update-ca-certificates >/dev/null 2>&1
}
"""


def host_files(
    root: Path = Path("/"), home: Path | None = None, environment: Mapping[str, str] | None = None
) -> dict[str, bytes]:
    """Path below `.host` → content. A host with nothing special gives `use` alone."""
    home = Path.home() if home is None else home
    environment = os.environ if environment is None else environment
    texts = {
        "use": USE + "".join(_exports(environment)) + ":\n",
        **_certificates(root),
        **_apt(root),
        "pip.conf": _pip_conf(root, home, environment),
        "npmrc": _npmrc(root, home, environment),
    }
    return {name: text.encode() for name, text in texts.items() if text}


def debian_mirror(root: Path = Path("/")) -> str:
    """Where this host gets Debian 12 from; Debian's own address where it says nothing."""
    found = (uri for uri, suite in _archives(root) if suite == SUITES[0])
    return next(found, DEBIAN)


def _exports(environment: Mapping[str, str]) -> Iterator[str]:
    for name in PROXIES:
        value = environment.get(name) or environment.get(name.upper())
        if value:
            quoted = shlex.quote(value)
            yield f"export {name}={quoted} {name.upper()}={quoted}\n"


def _certificates(root: Path) -> dict[str, str]:
    """The whole bundle for the build; for the image those that Debian's own package lacks."""
    bundle = next((text for name in BUNDLES if (text := _read(root / name))), "")
    public = {
        block
        for path in sorted((root / PUBLIC_CERTIFICATES).rglob("*.crt"))
        for block in _CERTIFICATE.findall(_read(path))
    }
    extra = [block for block in _CERTIFICATE.findall(bundle) if block not in public]
    files = {f"ca/host-{number}.crt": f"{block}\n" for number, block in enumerate(extra)}
    return {"ca-bundle.crt": bundle, **(files if public else {})}


def _apt(root: Path) -> dict[str, str]:
    folder = root / "etc/apt"
    configuration = [_read(folder / "apt.conf")]
    configuration += [_read(path) for path in sorted(folder.glob("apt.conf.d/*"))]
    lines = [found.strip() for text in configuration for found in _APT_PROXY.findall(text)]
    sources = [f"deb {uri} {suite} main" for uri, suite in _archives(root)]
    if sources:
        lines += [
            'Dir::Etc::sourcelist "/tmp/host/sources.list";',
            'Dir::Etc::sourceparts "/tmp/host/none";',
        ]
    return {
        "apt.conf": "".join(f"{line}\n" for line in lines),
        "sources.list": "".join(f"{line}\n" for line in sources),
    }


def _archives(root: Path) -> list[tuple[str, str]]:
    """(URI, suite) of Debian 12's own archives, as the host's apt has them."""
    folder = root / "etc/apt"
    paths = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    found = []
    for text in map(_read, paths):
        found += [(m[0], m[1], m[2]) for m in _ONE_LINE.findall(text)]
        for stanza in re.split(r"\n\s*\n", text):
            fields = {
                key.strip().lower(): value.strip()
                for key, _, value in (line.partition(":") for line in stanza.splitlines())
                if not key.startswith("#")
            }
            found += [
                (uri, suite, fields.get("components", ""))
                for uri in fields.get("uris", "").split()
                for suite in fields.get("suites", "").split()
                if "deb" in fields.get("types", "").split()
            ]
    kept = [
        (uri, suite)
        for uri, suite, components in found
        if suite in SUITES and "main" in components.split() and _ARCHIVE.fullmatch(uri)
    ]
    return kept if any(suite == SUITES[0] for _, suite in kept) else []


def _pip_conf(root: Path, home: Path, environment: Mapping[str, str]) -> str:
    values: dict[str, str] = {}
    paths = [root / name for name in PIP_FILES]
    paths += [home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    if environment.get("PIP_CONFIG_FILE"):
        paths.append(Path(environment["PIP_CONFIG_FILE"]))
    for path in paths:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string(_read(path))
        except configparser.Error:
            continue
        for option in PIP_OPTIONS:
            for section in ("global", "install"):
                values[option] = parser.get(section, option, fallback=values.get(option, ""))
    for option in PIP_OPTIONS:
        name = f"PIP_{option.replace('-', '_').upper()}"
        values[option] = environment.get(name, values.get(option, ""))
    # A path of the host means nothing inside a build.
    lines = [
        f"{option} = {' '.join(words)}\n"
        for option, value in values.items()
        if (words := [w for w in value.split() if option == "trusted-host" or _URL.match(w)])
    ]
    return "[global]\n" + "".join(lines) if lines else ""


def _npmrc(root: Path, home: Path, environment: Mapping[str, str]) -> str:
    paths = [*(root / name for name in NPM_FILES), home / ".npmrc"]
    lines = [
        line.strip()
        for path in paths
        for line in _read(path).splitlines()
        if re.match(r"\s*((@[\w.-]+:)?registry\s*=|//)", line)
    ]
    for name in ("npm_config_registry", "NPM_CONFIG_REGISTRY"):
        if environment.get(name):
            lines.append(f"registry={environment[name]}")
    return "".join(f"{line}\n" for line in lines)


def _read(path: Path) -> str:
    """Empty for what is not there or not to be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
