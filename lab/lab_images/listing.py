"""What each image is, for a person or a program."""

from __future__ import annotations

from lab_images.builder import LABEL, Builder
from lab_images.catalogue import Image
from lab_images.engine import docker, image_id


def describe(builder: Builder, chosen: list[Image]) -> list[dict[str, str | None]]:
    """What each image is: name, catalogue image, local tag, source (upstream, built, missing), software, stand_in."""
    answer = []
    for row in chosen:
        upstream = builder.pulled(row)
        source = "upstream" if upstream else "built" if image_id(builder.tag(row)) else "missing"
        software = row.image if upstream else row.software.replace(" {version}", "").replace("{version}", row.recipe)
        if source == "built":
            shown = docker(
                "image", "inspect", "--format", f'{{{{index .Config.Labels "{LABEL}.software"}}}}', builder.tag(row)
            )
            software = shown.stdout.strip()
        answer.append({
            "name": row.name, "image": row.image, "tag": row.image if upstream else builder.tag(row), "source": source,
            "software": software, "stand_in": None if upstream else row.stand_in,
        })  # fmt: skip
    return answer


def print_table(rows: list[dict[str, str | None]]) -> None:
    """A table that a person reads at a glance."""
    table = [("IMAGE", "SOURCE", "KIND", "SOFTWARE")]
    for row in rows:
        kind = "stand-in" if row["stand_in"] else "real"
        table.append((row["image"] or f"({row['name']})", str(row["source"]), kind, str(row["software"])))
    widths = [max(len(line[column]) for line in table) for column in range(3)]
    for line in table:
        print("  ".join([*(line[column].ljust(widths[column]) for column in range(3)), line[3]]).rstrip())
