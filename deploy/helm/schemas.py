"""Makes the schemas with which scripts/chart compares the rendered chart: from Kubernetes' OpenAPI and from custom resources.

Usage: schemas.py FOLDER SWAGGER.json CRD.yaml…    writes FOLDER/<kind>[-<group>]-<version>.json
in lower case, with the first part of the group, as kubeconform names them
"""

import json
import pathlib
import sys

import yaml

# Written with numbers as well as with text.
EITHER = {"oneOf": [{"type": "string"}, {"type": "number"}]}


def strict(schema):
    """The same, but a field without a description is an error, as for `kubectl --validate=strict`."""
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string"):
        return EITHER
    schema = dict(schema)
    for key in ("items", "additionalProperties"):
        if key in schema:
            schema[key] = strict(schema[key])
    if "properties" in schema:
        schema["properties"] = {name: strict(field) for name, field in schema["properties"].items()}
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    return schema


def references(schema):
    """The names of the definitions that a schema refers to."""
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield reference.removeprefix("#/definitions/")
        for value in schema.values():
            yield from references(value)


def needed(name, definitions):
    """A definition and all that it refers to."""
    found, open_names = {}, [name]
    while open_names:
        name = open_names.pop()
        if name not in found:
            found[name] = definitions[name]
            open_names.extend(references(definitions[name]))
    return found


def main(folder, swagger, *resources):
    folder = pathlib.Path(folder)

    def write(group, version, kind, schema):
        name = "-".join(filter(None, [kind, group.split(".")[0], version]))
        (folder / f"{name}.json".lower()).write_text(json.dumps(schema))

    definitions = json.loads(pathlib.Path(swagger).read_text())["definitions"]
    definitions = {name: strict(definition) for name, definition in definitions.items()}
    definitions["io.k8s.apimachinery.pkg.api.resource.Quantity"] = EITHER
    for name, definition in definitions.items():
        for known in definition.get("x-kubernetes-group-version-kind", []):
            # Lists and options of requests are in no manifest.
            if "spec" in definition.get("properties", {}) or "data" in definition.get("properties", {}):
                schema = {"$ref": f"#/definitions/{name}", "definitions": needed(name, definitions)}
                write(known["group"], known["version"], known["kind"], schema)
    for path in resources:
        spec = yaml.safe_load(pathlib.Path(path).read_text())["spec"]
        for version in spec["versions"]:
            schema = strict(version["schema"]["openAPIV3Schema"])
            schema["properties"]["metadata"] = {"type": "object"}
            write(spec["group"], version["name"], spec["names"]["kind"], schema)


main(*sys.argv[1:])
