"""Makes a .nupkg, which is a zip file with a list of its content types, of a folder that is laid out like one.

usage: make_nupkg.py FOLDER OUT.nupkg

FOLDER holds one .nuspec. Links become the files they point at, under the link's name. The same folder gives the same
bytes. Standard library only.
"""
import hashlib
import os
import sys
import xml.etree.ElementTree
import zipfile

CONTENT_TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
RELATIONSHIPS = "http://schemas.openxmlformats.org/package/2006/relationships"
MANIFEST = "http://schemas.microsoft.com/packaging/2010/07/manifest"
PROPERTIES = "http://schemas.openxmlformats.org/package/2006/relationships/metadata/core-properties"
KNOWN_TYPES = {"rels": "application/vnd.openxmlformats-package.relationships+xml",
               "psmdcp": "application/vnd.openxmlformats-package.core-properties+xml"}
EPOCH = (1980, 1, 1, 0, 0, 0)


def files_of(folder):
    """Names in the package and bytes, in order. A versioned library that a link stands for is left out."""
    names, behind_links = [], set()
    for directory, _, entries in os.walk(folder):
        for entry in entries:
            path = os.path.join(directory, entry)
            names.append(os.path.relpath(path, folder))
            if os.path.islink(path):
                behind_links.add(os.path.relpath(os.path.realpath(path), os.path.realpath(folder)))
    for name in sorted(set(names) - behind_links):
        with open(os.path.join(folder, name), "rb") as file:
            yield name, file.read()


def core_properties(nuspec):
    root = xml.etree.ElementTree.fromstring(nuspec)
    metadata = {element.tag.split("}")[1]: element.text for element in root[0]}
    fields = "".join(f"<{tag}>{metadata[key]}</{tag}>" for tag, key in (
        ("dc:creator", "authors"), ("dc:description", "description"), ("dc:identifier", "id"), ("version", "version"),
        ("keywords", "tags")))
    return ('<?xml version="1.0" encoding="utf-8"?>\n<coreProperties '
            'xmlns="http://schemas.openxmlformats.org/package/2006/metadata/core-properties" '
            f'xmlns:dc="http://purl.org/dc/elements/1.1/">{fields}</coreProperties>\n').encode()


def content_types(names):
    types = {}
    for name in names:
        extension = os.path.splitext(name)[1][1:]
        assert extension, f"{name}: a part of a package needs an extension"
        types[extension] = KNOWN_TYPES.get(extension, "application/octet")
    rows = "".join(f'<Default Extension="{e}" ContentType="{t}" />' for e, t in sorted(types.items()))
    return f'<?xml version="1.0" encoding="utf-8"?>\n<Types xmlns="{CONTENT_TYPES}">{rows}</Types>\n'.encode()


def relationships(nuspec_name, properties_name):
    rows = "".join(f'<Relationship Type="{kind}" Target="/{target}" Id="{identity}" />'
                   for kind, target, identity in ((MANIFEST, nuspec_name, "Rmanifest"),
                                                  (PROPERTIES, properties_name, "Rproperties")))
    return (f'<?xml version="1.0" encoding="utf-8"?>\n<Relationships xmlns="{RELATIONSHIPS}">{rows}</Relationships>\n'
            ).encode()


def main():
    folder, out = sys.argv[1:]
    parts = dict(files_of(folder))
    (nuspec,) = [name for name in parts if name.endswith(".nuspec")]
    properties = f"package/services/metadata/core-properties/{hashlib.md5(parts[nuspec]).hexdigest()}.psmdcp"
    head = {"_rels/.rels": relationships(nuspec, properties)}
    parts[properties] = core_properties(parts[nuspec])
    head["[Content_Types].xml"] = content_types(["x.rels", *parts])
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        for name, data in {**head, **parts}.items():
            info = zipfile.ZipInfo(name, EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            package.writestr(info, data)


if __name__ == "__main__":
    main()
