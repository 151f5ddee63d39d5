"""One small source per kind: two objects with clicks, one record that is no object."""

import json

from tests.importers import made

CLICKS = [list(point) for point in made.POINTS[::-1]]  # in no order of ours
COLLINEAR = [[5.0, 5.0], [6.0, 5.0], [7.0, 5.0], [9.0, 5.0]]


def _coco(path, key, clicks_as, **category):
    records = [
        {
            "id": number,
            "image_id": 7,
            "category_id": 3,
            "bbox": [20, 10, 41, 41] if number < 3 else [5, 5, 9, 9],
            key: clicks_as(clicks),
        }
        for number, clicks in enumerate((CLICKS, CLICKS, COLLINEAR), 1)
    ]
    source = made.coco(*records)
    source["categories"][0] |= category
    return made.write_json(path / "source.json", source)


def extremenet(path):
    return _coco(path, "extreme_points", lambda clicks: clicks)


def coco_boxes(path):
    source = json.loads(extremenet(path).read_text())
    source["annotations"][2]["bbox"] = [5, 5, 0, 9]
    return made.write_json(path / "source.json", source)


def cvat_keypoints(path):
    flat = lambda clicks: [value for x, y in clicks for value in (x, y, 2)]
    names = ["one", "two", "three", "four"]
    return _coco(path, "keypoints", flat, keypoints=names, skeleton=[])


def _text(path, name, text):
    (path / name).write_text(text)
    return path / name


def csv(path):
    lines = ["file,category,x1,y1,x2,y2,x3,y3,x4,y4"]
    for clicks in (CLICKS, CLICKS, COLLINEAR):
        cells = ",".join(f"{x},{y}" for x, y in clicks)
        lines.append(f"a.jpg,cat,{cells}")
    return _text(path, "source.csv", "\n".join(lines))


def open_images(path):
    numbers = ("1", "2", "3", "4")
    header = ["ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin"]
    header += ["YMax", "IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction"]
    header += ["IsInside", *(f"XClick{n}{axis}" for axis in "XY" for n in numbers)]
    lines = [",".join(header)]
    for group in (0, 0, 1):
        xs, ys = zip(*CLICKS)
        shares = [(x + 0.5) / made.WIDTH for x in xs]
        shares += [(y + 0.5) / made.HEIGHT for y in ys]
        box = (0.2, 0.61, 0.125, 0.6375)
        cells = ("a", "xclick", "cat", 1, *box, 0, 0, group, 0, 0, *shares)
        lines.append(",".join(map(str, cells)))
    return _text(path, "source.csv", "\n".join(lines))


def cvat(path):
    shapes = [
        '<points label="cat" points="{}"/>'.format(
            ";".join(f"{x},{y}" for x, y in clicks)
        )
        for clicks in (CLICKS, CLICKS, COLLINEAR)
    ]
    image = '<image id="0" name="a.jpg" width="100" height="80">'
    text = f"<annotations>{image}{''.join(shapes)}</image></annotations>"
    return _text(path, "annotations.xml", text)


def label_studio(path):
    regions = []
    for number, clicks in enumerate((CLICKS, CLICKS, COLLINEAR)):
        for place, (x, y) in enumerate(clicks):
            value = {
                "x": (x + 0.5) / made.WIDTH * 100,
                "y": (y + 0.5) / made.HEIGHT * 100,
                "width": 0.5,
                "keypointlabels": [f"cat {number}"],
            }
            regions.append(
                {
                    "id": f"{number}{place}",
                    "type": "keypointlabels",
                    "original_width": made.WIDTH,
                    "original_height": made.HEIGHT,
                    "image_rotation": 0,
                    "value": value,
                }
            )
    task = {
        "id": 1,
        "data": {"image": "/data/upload/1/a.jpg"},
        "annotations": [{"id": 5, "result": regions}],
    }
    return made.write_json(path / "source.json", [task])


def labelme(path):
    shapes = [
        {"label": "cat", "points": clicks, "shape_type": "polygon", "group_id": None}
        for clicks in (CLICKS, CLICKS, COLLINEAR)
    ]
    source = {
        "version": "5.5.0",
        "shapes": shapes,
        "imagePath": "a.jpg",
        "imageHeight": made.HEIGHT,
        "imageWidth": made.WIDTH,
    }
    return made.write_json(path / "a.json", source)


def via(path):
    regions = [
        {
            "shape_attributes": {
                "name": "polygon",
                "all_points_x": [x for x, _ in clicks],
                "all_points_y": [y for _, y in clicks],
            },
            "region_attributes": {"class": "cat"},
        }
        for clicks in (CLICKS, CLICKS, COLLINEAR)
    ]
    entry = {"filename": "a.jpg", "size": 12, "regions": regions}
    return made.write_json(path / "source.json", {"a.jpg12": entry})


def yolo(path):
    (path / "labels").mkdir(exist_ok=True)
    lines = []
    for clicks in (CLICKS, CLICKS, COLLINEAR):
        shares = [
            f"{(x + 0.5) / made.WIDTH} {(y + 0.5) / made.HEIGHT}" for x, y in clicks
        ]
        lines.append(f"0 {' '.join(shares)}")
    _text(path, "labels/a.txt", "\n".join(lines))
    return _text(path, "data.yaml", "names:\n  0: cat\n")


def voc_xml(path):
    boxes = ((20, 10, 61, 51), (20, 10, 61, 51), (5, 5, 5, 9))
    corners = ("xmin", "ymin", "xmax", "ymax")
    objects = "".join(
        "<object><name>cat</name><bndbox>"
        + "".join(f"<{key}>{value}</{key}>" for key, value in zip(corners, box))
        + "</bndbox></object>"
        for box in boxes
    )
    text = f"<annotation><filename>a.jpg</filename>{objects}</annotation>"
    return _text(path, "a.xml", text)


MAKERS = {
    "via": via,
    "yolo": yolo,
    "voc_xml": voc_xml,
    "extremenet": extremenet,
    "open_images": open_images,
    "cvat": cvat,
    "cvat_keypoints": cvat_keypoints,
    "label_studio": label_studio,
    "labelme": labelme,
    "csv": csv,
    "coco_boxes": coco_boxes,
}
