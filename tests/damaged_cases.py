# ruff: noqa: E501 (one line a case)
"""What a user may get wrong: files, tables, options, experiments and runs, each with the command that finds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from damage import (
    Damage,
    appended,
    archive,
    array,
    at,
    binary,
    copied,
    cut,
    dangling,
    edited,
    empty,
    encrypted,
    every,
    fewer_rows,
    file,
    flip,
    folder,
    gone,
    huge,
    lengthened,
    line,
    locked,
    member,
    nothing,
    one_deeper,
    overwritten,
    pages,
    picture,
    raw,
    rewritten,
    text,
    turned,
    twice,
    utf16,
    without_column,
    zipped,
)

NOISE = np.random.default_rng(1).integers(0, 256, (34, 34, 4), np.uint8)
FRESH = "--data {data} --experiment {tiny} --run-dir {new}"
AGAIN = "--data {data} --run-dir {run}"
OWN = "prepare --data {data} --experiment {own} --run-dir {new}"
JSON = "prepare --data {data} --experiment {tiny} --run-dir {new}"
APPLY = "apply {run} --data {other} --to {new}"
PREPARE, SET = f"prepare {FRESH}", f"prepare {FRESH} --set "
IMAGE, OTHER, MASK, TEST = (
    f"data/{n}.png" for n in ("train/images/{a}", "train/images/{b}", "train/masks/{a}", "test/images/{t}")
)
STAGE, MODEL = "run/trainings/random/fold-0/cosine", "run/predictions/random/fold-0/cosine"
POST, FOLDS, MOSAICS = "run/postprocessing", "run/folds/random/folds.csv", "run/mosaics/mosaics.csv"
TRAIN_CSV, DEPTHS, SAMPLE = "data/train.csv", "data/depths.csv", "data/sample_submission.csv"
DATABASE = "search/study/study.db"


@dataclass(frozen=True)
class Case:
    """``words`` are the command line; the message has ``names`` and ``remedy`` in it."""

    name: str
    damage: Damage
    words: str
    names: str
    remedy: str
    code: int = 1


SURVEY = [
    Case("image cut", at(IMAGE, cut), PREPARE, "train/images/{a}.png: is truncated", "replace it with an intact file"),
    Case("image with a flipped bit", at(IMAGE, flip), PREPARE, "{a}.png: is damaged (checksum", "replace it with an intact file"),
    Case("image empty", at(IMAGE, empty), PREPARE, "{a}.png: is empty", "remove its tile"),
    Case("image is text", at(IMAGE, text("tile")), f"mosaic {FRESH}", "{a}.png: is not a PNG file", "replace it with an intact file"),
    Case("image is binary", at(IMAGE, binary), PREPARE, "{a}.png: is not a PNG file", "remove its tile"),
    Case("image is a folder", at(IMAGE, folder), PREPARE, "train/images/{a}.png: is neither a tile", "move it out"),
    Case("image missing", at(IMAGE, gone), PREPARE, "lists {a}, which has no image", "add the image or remove the row"),
    Case("image in colour", at(IMAGE, picture(NOISE[:33, :33, :3])), PREPARE, "channels that differ", "convert it"),
    Case("image with transparency", at(IMAGE, picture(NOISE[:33, :33])), PREPARE, "a transparency channel", "convert it"),
    Case("image of 16 bits", at(IMAGE, picture(NOISE[:33, :33, 0] * np.uint16(257))), PREPARE, "has values of type uint16", "convert it"),
    Case("image of another size", at(IMAGE, picture(NOISE[..., 0])), PREPARE, "is 34 x 34 px", "crop it to that size"),
    Case("image not square", at(IMAGE, picture(NOISE[:33, :, 0])), PREPARE, "is 34 x 33 px", "crop it to that size"),
    Case("image is a JPEG", at(IMAGE, raw(b"\xff\xd8\xff\xe0JFIF")), PREPARE, "{a}.png: is not a PNG file", "replace it with an intact file"),
    Case("image twice", at("data/test/images/{a}.png", copied("../../train/images/{a}.png")), PREPARE, "the same id as", "rename"),
    Case("image is a link to nothing", at(IMAGE, dangling), PREPARE, "{a}.png: is a link to ../../.git/annex/objects/none, which is missing", "git annex get"),
    Case("image named oddly", at("data/train/images/{a} (1).png", copied("../images/{a}.png")), PREPARE, "{a} (1).png: has a name that is not a valid id", "rename it"),
    Case("stray file among tiles", at("data/train/images/notes.txt", text("")), PREPARE, "notes.txt: is neither a tile", "move it out"),
    Case("image unreadable", at(IMAGE, locked), PREPARE, "{a}.png: cannot be read", "replace it with an intact file"),
    Case("test image cut", at(TEST, cut), f"pipeline {FRESH}", "test/images/{t}.png: is truncated", "remove its tile"),
    Case("test image empty", at(TEST, empty), f"train {FRESH}", "test/images/{t}.png: is empty", "replace it with an intact file"),
    Case("test image missing", at(TEST, gone), PREPARE, "lists {t}", "remove the row"),
    Case("test image of another size", at(TEST, picture(NOISE[..., 0])), PREPARE, "test/images/{t}.png: is 34 x 34 px", "crop it"),
    Case("mask cut", at(MASK, cut), f"tune {FRESH}", "train/masks/{a}.png: is truncated", "replace it with an intact file"),
    Case("mask with a flipped bit", at(MASK, flip), PREPARE, "masks/{a}.png: is damaged", "replace it with an intact file"),
    Case("mask empty", at(MASK, empty), PREPARE, "masks/{a}.png: is empty", "remove its tile"),
    Case("mask of many values", at(MASK, picture(NOISE[:33, :33, 0])), PREPARE, "masks/{a}.png: is not two-valued", "0 and one other"),
    Case("mask of another size", at(MASK, picture(NOISE[..., 0] // 128 * 255)), PREPARE, "masks/{a}.png: is 34 x 34 px", "crop it"),
    Case("mask of another tile", at(MASK, turned), PREPARE, "masks/{a}.png: differs from train.csv", "keep the correct one"),
    Case("mask without an image", at("data/train/masks/lone.png", copied("{a}.png")), PREPARE, "lone.png: is a mask without", "remove the mask"),
    Case("masks and table missing", every(at(MASK, gone), at(TRAIN_CSV, gone)), PREPARE, "{a}.png: has no mask", "add train/masks/ID.png"),
    Case("two things wrong", every(at(IMAGE, cut), at(TEST, empty)), PREPARE, "{t}.png: is empty", "replace it with an intact file"),
    Case("no labelled tile left", at("data/train", gone), PREPARE, "cannot split 0 labelled tiles into 2 folds", "add tiles"),
    Case("no folder", at("data", gone), PREPARE, "data: there is no such folder", "--data DIR"),
    Case("empty folder", every(at("data", gone), at("data", Path.mkdir)), PREPARE, "data: no survey found", "synth DIR"),
    Case("one more folder around", at("data", one_deeper("tgs")), PREPARE, "no survey found, but there seems to be one in {data}/tgs", "--data {data}/tgs"),
    Case("only tables", every(at("data/train", gone), at("data/test", gone)), PREPARE, "no survey found", "--data DIR"),
    Case("a text file", at("data", file), PREPARE, "data: cannot be read as a zip", "replace it with an intact file"),
    Case("zip cut", zipped("train", cut), PREPARE, "train.zip: cannot be read as a zip", "replace it with an intact file"),
    Case("zip empty", zipped("test", empty), PREPARE, "test.zip: cannot be read as a zip", "replace it with an intact file"),
    Case("zip is text", zipped("train", text("zip")), f"train {FRESH}", "train.zip: cannot be read", "replace it with an intact file"),
    Case("zip is binary", zipped("test", binary), PREPARE, "test.zip: cannot be read as a zip", "replace it with an intact file"),
    Case("zip encrypted", zipped("train", encrypted), PREPARE, "train.zip: is encrypted", "unpack it with its password"),
    Case("zip with a flipped bit", zipped("train", flip), PREPARE, "damaged in its zip", "replace it with an intact file"),
    Case("zip leads out", zipped("train", member("../evil.png")), PREPARE, "points outside the zip", "do not use this zip"),
    Case("zip with a stray", zipped("train", member("images/notes.txt")), PREPARE, "images/notes.txt: is neither a tile", "take it out"),
    Case("zip with a broken tile", zipped("train", member("images/new.png", b"x")), PREPARE, "images/new.png: is not a PNG file", "replace it"),
    Case("cache is a file", nothing, f"SALT_RAY_CACHE={{tiny}} {PREPARE}", "tiny.json", "SALT_RAY_CACHE"),
]  # fmt: skip

NPY, NPY_MASK, NPY_TEST = (place.replace(".png", ".npy") for place in (IMAGE, MASK, TEST))
TIFF = IMAGE.replace(".png", ".tif")
AMPLITUDES = NOISE[:33, :33, 0].astype(np.float32)


def own(damage: Damage, suffix: str = ".npy") -> Damage:
    """The damage to the survey as TIFFs or arrays of floating-point amplitudes."""
    return every(at("data", rewritten(suffix)), damage)


OWN_FORMATS = [
    *(Case(f"array {how}", own(at(place, change)), PREPARE, names, remedy)
      for how, place, change, names, remedy in (
        ("cut", NPY, cut, "train/images/{a}.npy: is truncated", "replace it with an intact file"),
        ("empty", NPY_TEST, empty, "test/images/{t}.npy: is empty", "remove its tile"),
        ("binary", NPY, binary, "{a}.npy: is not an NPY file", "replace it with an intact file"),
        ("an archive", NPY, archive, "{a}.npy: is not an NPY file", "replace it with an intact file"),
        ("of objects", NPY, array(np.full((33, 33), None)), "{a}.npy: holds Python objects instead of numbers", "convert it"),
        ("of three dimensions", NPY, array(np.zeros((33, 33, 3))), "{a}.npy: holds an array of shape (33, 33, 3)", "convert it"),
        ("of another type", NPY, array(AMPLITUDES.astype(np.int16)), "{a}.npy: has values of type int16, but the survey's images are float32", "convert it"),
        ("of another size", NPY_TEST, array(AMPLITUDES[1:, 1:]), "{t}.npy: is 32 x 32 px", "crop it to that size"),
        ("with NaN", NPY, array(np.where(AMPLITUDES < 9, np.nan, AMPLITUDES)), "non-finite values", "convert it"),
        ("of truth values", NPY, array(AMPLITUDES > 99), "{a}.npy: holds booleans", "convert it"),
        ("that claims to be huge", NPY, huge, "{a}.npy: is 999999999 x 999999999 px; at most 4096 are read", "convert it"),
        ("with bytes behind it", NPY, lengthened, "{a}.npy: is damaged (", "replace it with an intact file"),
        ("of a mask of three values", NPY_MASK, array(AMPLITUDES % 3), "masks/{a}.npy: is not two-valued", "--set labels.salt=VALUE"),
        ("of a mask with NaN", NPY_MASK, array(np.full((33, 33), np.nan)), "masks/{a}.npy: holds 1,089 non-finite values", "convert it"),
        ("beside sections", "data/train/images/north/1.npy", array(AMPLITUDES), "{a}.npy: is next to section folders", "move it into its section's folder"),
    )),
    *(Case(f"TIFF {how}", own(at(TIFF, change), ".tif"), PREPARE, f"{{a}}.tif: {names}", remedy)
      for how, change, names, remedy in (
        ("cut", cut, "is truncated", "replace it with an intact file"),
        ("empty", empty, "is empty", "remove its tile"),
        ("that is none", text("tile"), "is not a TIFF file", "replace it with an intact file"),
        ("with damaged data", overwritten, "is damaged (its picture data cannot be decoded)", "replace it with an intact file"),
        ("of several pages", pages, "has several pages", "convert it"),
        ("in colour", picture(NOISE[:33, :33, :3]), "has 3 channels", "convert it"),
        ("of 64 bits", picture(AMPLITUDES.astype(np.float64)), "has floating-point samples of 64 bits", "convert it"),
    )),
    Case("two formats under one id", own(at(TIFF, picture(AMPLITUDES))), PREPARE, "{a}.tif: has the same id as train/images/{a}.npy", "rename or remove"),
    Case("a TIFF among arrays", own(every(at(NPY, gone), at(TIFF, picture(AMPLITUDES)))), PREPARE, "{a}.tif: is TIFF, but most files of its kind are NPY", "convert it"),
    Case("amplitudes without a range", at("data", rewritten(".npy", lambda image: image * np.float32(0))), PREPARE, "data: holds only constant tiles", "save them as uint8"),
]  # fmt: skip

TABLES = [
    Case(f"{name} {how}", at(f"data/{name}.csv", change), PREPARE, f"{name}.csv: {says}", remedy)
    for name, column in (("train", "rle_mask"), ("depths", "z"), ("sample_submission", "rle_mask"))
    for how, change, says, remedy in (
        ("empty", empty, "has no column id", f"the columns id and {column}"),
        ("binary", binary, "is not UTF-8 text", "comma-separated text"),
        ("in UTF-16", utf16, "is not UTF-8 text", "comma-separated text"),
        ("without ids", without_column("id"), "has no column id", f"the columns id and {column}"),
        ("without values", without_column(column), f"has no column {column}", f"the columns id and {column}"),
        ("with a short row", appended("lone\n"), "line ", "comma-separated text"),
        ("with an open quote", appended('"lone,1\n'), "cannot be parsed", "comma-separated text"),
        ("with a bad id", appended("../lone,1\n"), "line ", "an id is letters"),
        ("with a row twice", twice, "line ", "remove one of the rows"),
        ("with an unknown tile", appended("lone,1 1\n" if column != "z" else "lone,1\n"), "lists lone", "remove the row"),
        ("semicolons", lambda path: path.write_text(path.read_text().replace(",", ";")), "has no column id", "comma-"),
    )
] + [
    Case("train lacks a tile", at(TRAIN_CSV, fewer_rows), PREPARE, "is not listed in train.csv", "add the row"),
    Case("depths lacks a tile", at(DEPTHS, fewer_rows), PREPARE, "is not listed in depths.csv", "add the row"),
    Case("sample lacks a tile", at(SAMPLE, fewer_rows), PREPARE, "is not listed in sample_submission.csv", "add the row"),
    Case("depth is a word", at(DEPTHS, line(1, lambda row: row.split(",")[0] + ",deep")), PREPARE, "is 'deep', not a number", "in feet"),
    Case("depth is empty", at(DEPTHS, line(1, lambda row: row.split(",")[0] + ",")), PREPARE, "is '', not a number", "in feet"),
    Case("depth is NaN", at(DEPTHS, line(1, lambda row: row.split(",")[0] + ",nan")), PREPARE, "is 'nan', not a number", "in feet"),
    Case("runs of words", at(TRAIN_CSV, line(1, lambda row: row.split(",")[0] + ",salt")), PREPARE, "is malformed", "fix the row"),
    Case("runs of odd length", at(TRAIN_CSV, line(1, lambda row: row.split(",")[0] + ",1 2 3")), PREPARE, "is malformed", "fix the row"),
    Case("runs beyond the tile", at(TRAIN_CSV, line(1, lambda row: row.split(",")[0] + ",1080 99")), PREPARE, "is malformed", "fix the row"),
    Case("runs from zero", at(TRAIN_CSV, line(1, lambda row: row.split(",")[0] + ",0 3")), PREPARE, "is malformed", "fix the row"),
    Case("runs overlap", at(TRAIN_CSV, line(1, lambda row: row.split(",")[0] + ",1 5 3 4")), PREPARE, "is malformed", "fix the row"),
    Case("table is a folder", at(TRAIN_CSV, folder), PREPARE, "train.csv: is a folder", "or remove it"),
    Case("table unreadable", at(DEPTHS, locked), PREPARE, "depths.csv: ", "comma-separated text"),
]  # fmt: skip

OPTIONS = [
    Case(f"--set {given}", nothing, SET + given, names, remedy)
    for given, names, remedy in (
        ("nosuch=1", "nosuch", "fields: "),
        ("network.encodr=resnet34", "network.encodr: unknown field 'encodr'", "did you mean 'encoder'"),
        ("network.encoder.x=1", "network.encoder.x: 'encoder' is a plain value", "has no field 'x'"),
        ("seed", "--set seed", "write field.sub=value"),
        ("=1", "--set =1", "write field.sub=value"),
        ("seed=-1", "seed = -1", "greater than or equal to 0"),
        ("seed=1.5", "seed = 1.5", "valid integer"),
        ("seed=two", "seed = 'two'", "valid integer"),
        ("seed=true", "seed = True", "valid integer"),
        ("seed=99999999999", "seed = 99999999999", "less than 2147483648"),
        ("name=", "name = ''", "match pattern"),
        ("name=../up", "name = '../up'", "match pattern"),
        ("precision=fp16", "precision = 'fp16'", "'bf16' or 'fp32'"),
        ("network.decoder.dropout=1", "network.decoder.dropout = 1", "less than 1"),
        ("network.decoder.dropout=NaN", "network.decoder.dropout = nan", "input should be a finite number"),
        ("network.decoder=unet", "network.decoder = 'unet'", "it was renamed to decoder.kind"),
        ("network.decoder.kind=unet", "network.decoder.kind = 'unet'", "'fpn', 'scse'"),
        ("network.fpn_widths=[1,2]", "network.fpn_widths", "it was renamed to decoder.pyramid_widths"),
        ("network.decoder.pyramid_widths=[1,2]", "network.decoder.pyramid_widths", "missing"),
        ("network.decoder.pyramid_widths=[0,2,2,2,2]", "network.decoder.pyramid_widths", "at least 1"),
        ("network.mask_head_width=wide", "network.mask_head_width = 'wide'", "valid integer"),
        ("network.pretrained=3", "network.pretrained = 3", "a path"),
        ("network.pretrained={tmp}/none.pt", "network.pretrained = {tmp}/none.pt: there is no such file", "name the weights"),
        ("augmentation.flip_probability=2", "augmentation.flip_probability = 2", "less than or equal to 1"),
        ("geometry.crop_px=100", "geometry.crop_px = 100", "multiple of 32"),
        ("geometry.crop_px=32", "geometry.crop_px = 32 is smaller than the tiles", "at least 33"),
        ("geometry.padded_px=40", "geometry.padded_px = 40 is below the crop", "or unset both"),
        ("trainings=[]", "trainings", "at least one is needed"),
        ("trainings.random=1", "trainings.random: set a field of this entry", "give the whole list as JSON"),
        ("trainings.none.folds.count=2", "there is no 'none' here", "choose a number, 'all' or one of"),
        ("trainings.9.folds.count=2", "there is no '9' here", "choose a number"),
        ("trainings.all.folds.count=1", "trainings.0.folds.count = 1", "greater than or equal to 2"),
        ("trainings.all.folds.count=50", "cannot split 24 labelled tiles into 50 folds", "lower the training's folds.count"),
        ("trainings.all.folds.kind=deep", "folds.kind = 'deep'", "'mosaic', 'section' or 'lines'"),
        ("trainings.all.folds.seed=3", "seed = 3 is for", "folds of kind 'random' only"),
        ("trainings.all.stages.plateau.lr=0", "lr = 0", "greater than 0"),
        ("trainings.all.stages.plateau.epochs=0", "epochs = 0", "greater than or equal to 1"),
        ("trainings.all.stages.none.lr=0.1", "there is no 'none' here", "one of ['plateau', 'cosine']"),
        ("trainings.all.stages.plateau.schedule.kind=step", "schedule", "plateau"),
        ("trainings.all.stages.plateau.bce_weight=-1", "bce_weight = -1", "greater than or equal to 0"),
        ("postprocessing.rules=some", "postprocessing.rules = 'some'", "'evidence', 'argus' or 'none'"),
        ("postprocessing.rules=[\"fill\"]", "postprocessing.rules", "fill_holes"),
        ("resources.gpus_per_fold=2", "resources.gpus_per_fold = 2", "less than or equal to 1"),
        ("resources={\"cpus\":1}", "resources.cpus: unknown field", "fields: cpus_per_fold"),
        ("labels.full_tiles=full", "labels.full_tiles = 'full'", "'empty' or 'salt'"),
        ("labels={\"salt\":1,\"ignore\":1}", "salt and ignore are both 1", "cannot mean both"),
        ("labels.salt=7", "no mask holds labels.salt = 7", "correct labels.salt"),
        ("amplitudes.nodata=none", "amplitudes.nodata = 'none'", "valid number"),
        ("holdout=[1", "holdout", "CSV with a column id"),
        ("holdout=7", "holdout = 7", "a path"),
        ("holdout=mosaic:10%", "holdout = 'mosaic:10%'", "a share above 0 and below 1, as in mosaic:0.1"),
        ("holdout=mosaic:1", "holdout = 'mosaic:1'", "a share above 0 and below 1"),
        ("holdout=section:", "holdout = 'section:'", "a share above 0 and below 1, as in section:0.1"),
        ("holdout=section:0.1", "needs one folder of tiles per section", "use holdout=mosaic:SHARE"),
        ("holdout=mosaic:0.001", "no mosaic is as small as holdout=mosaic:0.001", "increase the share"),
        ("tune.folds=[]", "tune.folds = []", "at least 1 item"),
        ("tune.parameters.lr.low=1", "tune.parameters", "is not below high"),
        ("tune.parameters.lr.on=false", "tune.parameters", "no parameter is on"),
    )
] + [
    Case("tune without a section", nothing, f"tune {FRESH} --set tune=null", "tune", "tune"),
    Case("tune an unknown fold", nothing, f"tune {FRESH} --set tune.folds=[7]", "random has no fold 7", "only 0 … 1"),
    Case("tune an unknown field", nothing, f"tune {FRESH} --set tune.parameters.lr.fields=[\"lr\"]", "lr", "fields: "),
    Case("tune outside the range", nothing, f"tune {FRESH} --set tune.parameters.lr.low=0.05", "tune.parameters.lr", "change one of them"),
    Case("tune what is shared", nothing, f"tune {FRESH} --set tune.parameters.lr.fields=[\"seed\"]", "tune.parameters.lr: the experiment's own seed = 7", "change one of them"),
    Case("unknown encoder", nothing, f"train {FRESH} --set network.encoder=resnt34", "network.encoder = 'resnt34'", "did you mean"),
    Case("unsuited encoder", nothing, f"train {FRESH} --set network.encoder=vit_tiny_patch16_224", "network.encoder = ", "choose a convolutional"),
    Case("data is a word", nothing, "prepare --data nowhere", "nowhere: there is no such folder", "--data DIR"),
    Case("data is a tile", nothing, "prepare --data {data}/train/images/{a}.png --experiment {tiny} --run-dir {new}", "{a}.png: cannot be read as a zip", "replace it with an intact file"),
    Case("data from the environment", nothing, "SALT_RAY_DATA=nowhere prepare", "nowhere: there is no such folder", "--data DIR"),
    Case("run directory is a file", nothing, "prepare --data {data} --experiment {tiny} --run-dir {tiny}", "tiny.json", "choose another --run-dir"),
    Case("run directory below a file", nothing, "prepare --data {data} --experiment {tiny} --run-dir {tiny}/run", "tiny.json", "another --run-dir"),
    Case("run directory is no bucket", nothing, "prepare --data {data} --experiment {tiny} --run-dir s3://", "s3://", "write s3://BUCKET/PREFIX"),
    Case("run directory is a bad bucket", nothing, "prepare --data {data} --experiment {tiny} --run-dir s3://No_Bucket/x", "No_Bucket", "write s3://BUCKET/PREFIX"),
    Case("address is a word", nothing, f"train {FRESH} --address nonsense", "cannot connect to Ray at nonsense", "use --address local"),
    Case("address without a server", nothing, f"train {FRESH} --address 127.0.0.1:1", "127.0.0.1:1", "--address"),
    Case("address of no dashboard", nothing, f"tune {FRESH} --address http://127.0.0.1:1", "cannot connect to a dashboard at http://127.0.0.1:1", "ray start --head"),
    Case("address without a port", nothing, f"predict {FRESH} --address http://127.0.0.1:x", "127.0.0.1:x", "ray start"),
    Case("--trials 0", nothing, f"tune {FRESH} --trials 0", "'--trials'", "--help", 2),
    Case("--trials many", nothing, f"tune {FRESH} --trials many", "'--trials'", "--help", 2),
    Case("--seeds 0", nothing, f"pipeline {FRESH} --seeds 0", "'--seeds'", "--help", 2),
    Case("--seeds x", nothing, f"pipeline {FRESH} --seeds x", "'--seeds'", "--help", 2),
    Case("--tiles x", nothing, "synth {new} --tiles x", "'--tiles'", "--help", 2),
    Case("--tiles 3", nothing, "synth {new} --tiles 3", "tiles is 3", "at least 40"),
    Case("--seed -1", nothing, "synth {new} --seed -1", "seed is -1", "0"),
    Case("synth over a survey", nothing, "synth {data}", "data exists and is not empty", "give another folder"),
    Case("unknown command", nothing, "trian", "trian", "--help", 2),
    Case("unknown option", nothing, "train --epochs 3", "--epochs", "--help", 2),
    Case("option of another command", nothing, "prepare --seeds 3", "--seeds", "--help", 2),
    Case("option without its value", nothing, "prepare --data", "Option '--data' requires", "an argument", 2),
    Case("one word too many", nothing, "prepare {data}", "data", "--help", 2),
    Case("study of nothing", nothing, "study", "'run_dir'", "--help", 2),
    Case("report of nothing", nothing, "report", "give exactly one run", "--help", 2),
    Case("report of two", nothing, "report a --run-dir b", "give exactly one run", "--help", 2),
    Case("bench of nothing", nothing, "bench", "'names'", "--help", 2),
    Case("unknown benchmark", nothing, "bench speed", "there is no benchmark 'speed'", "choose from"),
    Case("unknown device", nothing, "bench padding --device tpu", "'tpu'", "leave --device out"),
]  # fmt: skip

PYTHON = [
    Case(f"Python {how}", at("ideas/own.py", text(code)), OWN, f"own.py{names}", remedy)
    for how, code, names, remedy in (
        ("with a syntax error", "def experiment(:\n", ": it cannot be imported (SyntaxError", "fix the file"),
        ("with tabs and spaces", "if 1:\n\tx = 1\n        y = 2\n", ": it cannot be imported (TabError", "fix the file"),
        ("that imports nothing", "import no_such_module\n", ": it cannot be imported (ModuleNotFoundError: No module named 'no_such_module'", "fix the file"),
        ("of a wrong parent", "from experiments.nosuch import experiment\n", ": it cannot be imported (ModuleNotFoundError: No module named 'experiments.nosuch'", "pass another with --experiment"),
        ("that raises", "1 / 0\n", ": it cannot be imported (ZeroDivisionError: division by zero)", "fix the file"),
        ("that exits", "raise SystemExit(3)\n", ": it cannot be imported (SystemExit: 3)", "fix the file"),
        ("with a zero byte", "x = 1\0\n", ": it cannot be imported", "fix the file"),
        ("that is empty", "", " must define experiment()", "return a salt_ray.config.Experiment"),
        ("with a value for a function", "experiment = 3\n", " must define experiment()", "return a salt_ray"),
        ("that returns nothing", "def experiment(): pass\n", " must define experiment()", "return a salt_ray"),
        ("that returns a dict", "def experiment(): return {'name': 'x'}\n", " must define experiment()", "return a salt_ray"),
        ("whose function takes something", "def experiment(x): return x\n", ": experiment() failed (TypeError", "fix the file"),
        ("whose function raises", "def experiment(): return [][1]\n", ": experiment() failed (IndexError", "fix the file"),
        ("with an unknown field", "from salt_ray.config import Network\ndef experiment(): return Network(depth=3)\n", ": depth: unknown field", "fields: encoder"),
        ("with a value out of range", "from salt_ray.config import Fpn\nFpn(dropout=1.0)\ndef experiment(): pass\n", ": dropout = 1.0", "less than 1"),
        ("that replaces wrongly", "from experiments.demo import experiment as parent\ndef experiment(): return parent().replace(seed=-1)\n", ": seed = -1", "greater than or equal to 0"),
    )
] + [
    Case("Python in Latin-1", at("ideas/own.py", raw(b"x = 'gr\xfc\xdfe'\n")), OWN, "own.py: it cannot be imported (SyntaxError", "fix the file"),
    Case("Python that is binary", at("ideas/own.py", binary), OWN, "own.py: it cannot be imported", "fix the file"),
    Case("Python missing", nothing, OWN, "there is no experiment", "--experiment"),
    Case("Python misspelt", nothing, "prepare --data {data} --experiment experiments/dmeo.py", "there is no experiment experiments/dmeo.py", "did you mean experiments/demo.py"),
    Case("Python is a folder", at("ideas/own.py", Path.mkdir), OWN, "there is no experiment", "--experiment"),
    Case("Python unreadable", every(at("ideas/own.py", text("")), at("ideas/own.py", locked)), OWN, "own.py", "PermissionError"),
    Case("Python in an object store", nothing, "prepare --data {data} --experiment s3://bucket/x.py", "s3://bucket/x.py is Python", "copy it to this machine"),
    Case("neither Python nor JSON", nothing, "prepare --data {data} --experiment {data}/train.csv", "train.csv is neither .py nor .json", "pass an experiment that is"),
]  # fmt: skip

JSONS = [
    Case(f"JSON {how}", at("tiny.json", change), JSON, names, remedy)
    for how, change, names, remedy in (
        ("cut", cut, "tiny.json is not valid JSON", "fix it or pass another file"),
        ("empty", empty, "tiny.json is not valid JSON", "pass another file"),
        ("binary", binary, "tiny.json is not valid JSON", "pass another file"),
        ("in UTF-16", utf16, "tiny.json is not valid JSON", "pass another file"),
        ("a list", text("[]"), "tiny.json", "valid dictionary"),
        ("a number", text("3"), "tiny.json", "valid dictionary"),
        ("null", text("null"), "tiny.json", "valid dictionary"),
        ("without fields", text("{}"), "name is missing", "trainings is missing"),
        ("nested too deeply", text("[" * 100_000), "tiny.json is not valid JSON", "pass another file"),
        ("with a huge number", text('{"seed": ' + "9" * 5000 + "}"), "tiny.json is not valid JSON", "pass another file"),
        ("with an unknown field", edited("learning", 1), "learning: unknown field", "fields: name"),
        ("with an unknown section's field", edited("network.depth", 1), "network.depth: unknown field", "fields: encoder"),
        ("with a word for a number", edited("seed", "x"), "seed = 'x'", "valid integer"),
        ("with a word for a section", edited("network", "resnet34"), "network = 'resnet34'", "Network"),
        ("with a word for a list", edited("trainings", "all"), "trainings = 'all'", "valid tuple"),
        ("without a name", edited("name", ...), "tiny.json: name is missing", "is missing"),
        ("without trainings", edited("trainings", ...), "tiny.json: trainings is missing", "is missing"),
        ("without stages", edited("trainings.0.stages", []), "trainings.0.stages", "at least one is needed"),
        ("with two of a name", edited("trainings.0.stages.1.name", "plateau"), "the names ['plateau', 'plateau']", "must be unique"),
        ("with a rate below zero", edited("trainings.0.stages.0.lr", -1.0), "lr = -1.0", "greater than 0"),
        ("with an unknown schedule", edited("trainings.0.stages.0.schedule.kind", "step"), "schedule", "plateau"),
        ("with nothing to learn", edited("trainings.0.stages.0.lovasz_weight", None), "lovasz_weight", "valid number"),
        ("with an unknown rule", edited("postprocessing.rules", ["fill"]), "postprocessing.rules", "fill_holes"),
    )
] + [
    Case("JSON missing", at("tiny.json", gone), JSON, "there is no experiment", "--experiment"),
    Case("JSON is a folder", at("tiny.json", folder), JSON, "there is no experiment", "--experiment"),
    Case("JSON unreadable", at("tiny.json", locked), JSON, "tiny.json", "make it"),
]  # fmt: skip

HOLDOUTS = [
    Case(f"hold-out {how}", at("ids.csv", change), f"{SET}holdout={{tmp}}/ids.csv", f"hold-out {{tmp}}/ids.csv {names}", remedy)
    for how, change, names, remedy in (
        ("empty", text(""), "cannot be read as a CSV", "correct holdout"),
        ("without ids", text("tile\na\n"), "cannot be read as a CSV with a column id", "correct holdout"),
        ("with a comma too many", text("id,fold\na,1,\n"), "cannot be read as a CSV with a column id (line 2 has 3 fields, the header 2)", "correct holdout"),
        ("of unknown tiles", text("id\nlone\n"), "are not labelled here (first: lone)", "correct holdout"),
        ("binary", binary, "cannot be read as a CSV", "correct holdout"),
        ("a folder", Path.mkdir, "cannot be read as a CSV", "correct holdout"),
        ("without a tile", text("id\n"), "lists no tiles", "correct holdout"),
    )
] + [
    Case("hold-out missing", nothing, f"{SET}holdout={{tmp}}/none.csv", "hold-out {tmp}/none.csv cannot be read", "correct holdout"),
]  # fmt: skip

MARKERS = [
    Case(f"{command}: {place} {how}", at(f"run/{place}", change), f"{command} {AGAIN}", f"{place} is damaged", "and run pipeline to regenerate it")
    for place, command in (
        ("folds/random/done.json", "prepare"),
        ("folds/random/inputs.json", "train"),
        ("trainings/random/fold-0/cosine/done.json", "score"),
        ("trainings/random/fold-0/cosine/inputs.json", "submit"),
        ("predictions/random/fold-0/cosine/done.json", "score"),
        ("predictions/random/fold-0/cosine/inputs.json", "predict"),
        ("mosaics/done.json", "mosaic"),
        ("mosaics/inputs.json", "submit"),
        ("postprocessing/done.json", "score"),
        ("postprocessing/inputs.json", "submit"),
    )
    for how, change in (("cut", cut), ("empty", empty), ("binary", binary), ("a list", text("[1]")))
]  # fmt: skip

APPLIED = [
    Case("applied to its own tiles", nothing, "apply {run} --data {data} --to {new}", "was trained on the tiles in {data}", "predict and submit"),
    Case("no run to apply", nothing, "apply {new} --data {other} --to {tmp}/to", "there is no run in {new}", "train or pipeline"),
    Case("a search to apply", nothing, APPLY.replace("{run}", "{search}"), "random-fold-0 is not trained in {search}", "with pipeline"),
    Case("applied untrained", at("run/trainings", gone), APPLY, "random-fold-0 is not trained", "finish it with pipeline"),
    Case("applied half trained", at("run/trainings/random/fold-1", gone), APPLY, "random-fold-1 is not trained", "finish it with pipeline"),
    Case("applied with cut inputs", at(f"{STAGE}/inputs.json", cut), APPLY, "inputs.json is damaged", "run pipeline to regenerate it"),
    Case("applied with a cut marker", at(f"{STAGE}/done.json", cut), APPLY, "done.json is damaged", "run pipeline to regenerate it"),
    Case("applied with another network", nothing, f"{APPLY} --set network.decoder.dropout=0.5", "dropout: 0.2 before, 0.5 now", "use another"),
    Case("applied with no such threshold", nothing, f"{APPLY} --set prediction.mask_threshold=2", "prediction.mask_threshold", "less than"),
    Case("applied to nothing", nothing, "apply {run} --data {tmp}/none --to {new}", "none: there is no such folder", "--data DIR"),
    Case("a chunk of predictions is no array", at(f"{MODEL}/chunks/00000.npy", binary), f"score {AGAIN}", "is damaged (it is not an array)", "run pipeline to regenerate it"),
    Case("applied to a damaged survey", at("other/train.csv", cut), APPLY, "train.csv", "row"),
    Case("applied to a file", nothing, "apply {run} --data {other} --to {tiny}", "cannot write to {tiny}", "choose another"),
    Case("applied to nowhere", nothing, "apply {run} --data {other}", "Missing option '--to'", "--help", code=2),
    Case("JSON of nothing", nothing, "status {new} --json", "there is no run in {new}", "create it with pipeline"),
]  # fmt: skip

RUNS = [
    Case("another seed", nothing, f"train {AGAIN} --set seed=8", "experiment.seed: 7 before, 8 now", "use another --run-dir"),
    Case("another rate", nothing, f"prepare {AGAIN} --set trainings.all.stages.plateau.lr=0.5", "stages.0.lr: 0.02 before, 0.5 now", "use another"),
    Case("folds of no sections", nothing, f"{SET}trainings.all.folds.kind=section", "need one folder of tiles per section", "use folds.kind=depth, random or mosaic"),
    Case("other folds", nothing, f"score {AGAIN} --set trainings.all.folds.count=3", "count: 2 before, 3 now", "delete that folder"),
    Case("another encoder", nothing, f"predict {AGAIN} --set network.encoder=resnet18", "resnet18 now", "use another --run-dir"),
    Case("other rules", nothing, f"submit {AGAIN} --set postprocessing.rules=[\"fill_holes\"]", "not post-processed with these settings", "run postprocess first"),
    Case("another threshold", nothing, f"score {AGAIN} --set prediction.mask_threshold=0.7", "mask_threshold: 0.4 before, 0.7 now", "run postprocess first"),
    Case("without flips", nothing, f"submit {AGAIN} --set prediction.flip=false", "flip: True before, False now", "run predict first"),
    Case("other mosaics", nothing, f"mosaic {AGAIN} --set mosaics.max_iou=0.1", "mosaics", "field"),
    Case("another training", nothing, f"score {AGAIN} --set trainings.0.name=other", "other-fold-0 is not trained", "run train first"),
    Case("another survey", at(IMAGE, picture(NOISE[:33, :33, 0])), f"train {AGAIN}", "survey: ", "use another --run-dir"),
    Case("another search", nothing, "prepare --data {data} --run-dir {search} --set seed=8", "experiment.seed: 7 before, 8 now", "delete that folder"),
    Case("experiment of another", at("run/experiment.json", edited("trainings.0.stages.0.epochs", 9)), f"train {AGAIN}", "epochs: 1 before, 9 now", "use another"),
    Case("experiment cut", at("run/experiment.json", cut), f"score {AGAIN}", "experiment.json is not valid JSON", "fix it"),
    Case("experiment empty", at("run/experiment.json", empty), f"submit {AGAIN}", "experiment.json is not valid JSON", "pass another file"),
    Case("experiment a list", at("run/experiment.json", text("[]")), f"report {AGAIN}", "experiment.json", "valid dictionary"),
    Case("experiment with an unknown field", at("run/experiment.json", edited("x", 1)), f"report {AGAIN}", "x: unknown field", "fields: name"),
    Case("experiment a folder", at("run/experiment.json", folder), f"score {AGAIN}", "there is no experiment", "--experiment"),
    Case("record cut", at("run/run.json", cut), f"prepare {AGAIN}", "run.json is damaged", "restore it"),
    Case("record of words", at("run/run.json", text('{"tile_px": "many"}')), APPLY, "run.json is damaged", "restore it"),
    Case("not trained", at("run/trainings", gone), f"score {AGAIN}", "random-fold-0 is not trained in", "run train first"),
    Case("one fold not trained", at("run/trainings/random/fold-1", gone), f"predict {AGAIN}", "random-fold-1 is not trained", "run train"),
    Case("not predicted", at("run/predictions", gone), f"submit {AGAIN}", "random-fold-0 has not predicted in", "run predict first"),
    Case("not predicted, to post-process", at("run/predictions", gone), f"postprocess {AGAIN}", "has not predicted", "run predict first"),
    Case("not post-processed", at(POST, gone), f"score {AGAIN}", "are not post-processed", "run postprocess first"),
    Case("not scored", at("run/scores.json", gone), f"report {AGAIN}", "has no scores yet", "run pipeline"),
    Case("no run", nothing, "report {new}", "there is no run in {new}", "create it with pipeline"),
    Case("a search is no run", nothing, "report {search}", "contains a search but no scored run", "launch.py study"),
    Case("a run is no search", nothing, "study {run}", "holds no study", "launch.py tune --run-dir"),
    Case("no search", nothing, "study {new}", "new holds no study", "launch.py tune --run-dir"),
    *(Case(f"folds {how}", at(FOLDS, change), f"score {AGAIN}", f"folds.csv {names}", "delete {run}/folds/random")
      for how, change, names in (
        ("cut", cut, "is not a table of 2 folds"),
        ("empty", empty, "is not a table of 2 folds"),
        ("binary", binary, "is not a table of 2 folds"),
        ("missing", gone, "is not a table of 2 folds"),
        ("without ids", without_column("id"), "is not a table of 2 folds"),
        ("with a word", line(1, lambda row: row.split(",")[0] + ",first"), "is not a table of 2 folds"),
        ("with an unknown fold", line(1, lambda row: row.split(",")[0] + ",7"), "is not a table of 2 folds"),
        ("with a tile twice", twice, "is not a table of 2 folds"),
        ("of other tiles", line(1, lambda row: "lone," + row.split(",")[1]), "lists other tiles"),
        ("lacking a tile", fewer_rows, "lists other tiles"),
        ("a folder", folder, "is not a table of 2 folds"),
    )),
    *(Case(f"mosaics {how}", at(MOSAICS, change), f"submit {AGAIN}", f"mosaics.csv {names}", "delete {run}/mosaics")
      for how, change, names in (
        ("cut", cut, "is not a table of mosaics"),
        ("empty", empty, "is not a table of mosaics"),
        ("binary", binary, "is not a table of mosaics"),
        ("missing", gone, "is not a table of mosaics"),
        ("without places", without_column("row"), "is not a table of mosaics"),
        ("with a word", line(1, lambda row: row.split(",")[0] + ",a,b,c,d"), "is not a table of mosaics"),
        ("with a tile twice", twice, "is not a table of mosaics"),
        ("with a negative place", line(1, lambda row: row.split(",")[0] + ",0,-1,0,1"), "is not a table of mosaics"),
        ("of an unknown tile", line(1, lambda row: "lone," + row.split(",", 1)[1]), "contains 1 tiles that are not in this survey (first: lone)"),
        ("a folder", folder, "is not a table of mosaics"),
    )),
    *(Case(f"chunk {how}", at(f"{MODEL}/chunks/00000.npy", change), f"{command} {AGAIN}", f"00000.npy {names}", "delete {run}/predictions/random/fold-0/cosine")
      for how, change, command, names in (
        ("cut", cut, "submit", "is damaged"),
        ("empty", empty, "score", "is damaged"),
        ("binary", binary, "score", "is damaged"),
        ("missing", gone, "submit", "is missing"),
        ("of other type", array(np.arange(30)), "score", "is damaged"),
        ("too short", array(np.zeros(1, [("salt", "f4"), ("mask", "f2", (33, 33))])), "score", "is damaged"),
        ("of other tiles", array(np.zeros(60, [("salt", "f4"), ("mask", "f2", (9, 9))])), "submit", "is damaged"),
        ("an archive", archive, "score", "is damaged"),
    )),
    Case("a folder for a chunk", at(f"{MODEL}/chunks/00000.npy", folder), f"submit {AGAIN}", "00000.npy", "remove what is in its place"),
    *(Case(f"tiles {how}", at(f"{MODEL}/tiles.npy", change), f"score {AGAIN}", "tiles.npy is", "delete {run}/predictions/random/fold-0/cosine")
      for how, change in (
        ("cut", cut), ("empty", empty), ("binary", binary), ("missing", gone), ("an archive", archive), ("of text", array(np.array(["a"]))),
        ("too few", array(np.arange(2))), ("too large", array(np.arange(9000, 9030))), ("of two dimensions", array(np.zeros((3, 3), int))),
    )),
    *(Case(f"corrections: {name} {how}", at(f"{POST}/{name}", change), f"submit {AGAIN}", "masks.npy is" if how == "too few" else f"{name} is", "delete {run}/postprocessing")
      for name in ("tiles.npy", "masks.npy")
      for how, change in (("cut", cut), ("empty", empty), ("binary", binary), ("missing", gone), ("too few", array(np.arange(0))), ("an archive", archive))),
    *(Case(f"rules {how}", at(f"{POST}/rules.json", change), f"score {AGAIN}", "rules.json is", "delete {run}/postprocessing")
      for how, change in (("cut", cut), ("empty", empty), ("binary", binary), ("missing", gone), ("a list", text("[1]")), ("another's", text("{}")))),
    *(Case(f"scores {how}", at("run/scores.json", change), f"report {AGAIN}", "scores.json", "run score")
      for how, change in (("cut", cut), ("empty", empty), ("binary", binary), ("a list", text("[1]")), ("without fields", text("{}")),
        ("of other predictions", edited("oof", 0.9)), ("with a word", edited("oof", "good")), ("without folds", edited("folds", ...)))),
    Case("a folder for the scores", at("run/scores.json", folder), f"report {AGAIN}", "scores.json", "remove what is in its place"),
    *(Case(f"history {how}", at(f"{STAGE}/history.csv", change), f"report {AGAIN}", "history.csv is", "delete {run}/trainings/random/fold-0/cosine")
      for how, change in (("cut", raw(b"epo")), ("empty", empty), ("binary", binary), ("missing", gone), ("without scores", without_column("score")), ("with a word", line(1, "1,a,b,c,d")))),
    *(Case(f"times {how}", at(f"{STAGE}/times.csv", change), f"report {AGAIN}", "times.csv is", "delete {run}/trainings/random/fold-0/cosine/times.csv")
      for how, change in (("empty", empty), ("binary", binary), ("without seconds", without_column("seconds")), ("with a word", line(1, "1,a,b")))),
    *(Case(f"changes {how}", at(f"{POST}/changes.csv", change), f"report {AGAIN}", "changes.csv is", "delete {run}/postprocessing")
      for how, change in (("empty", empty), ("binary", binary), ("missing", gone), ("without rules", without_column("rule")))),
    Case("marker of a stage without epochs", at("run/trainings/random/fold-0/plateau/done.json", text("{}")), f"report {AGAIN}", "done.json", "delete"),
    Case("marker of the rules without failures", at(f"{POST}/done.json", text("{}")), f"report {AGAIN}", "done.json", "delete"),
    *(Case(f"checkpoint for folds {how}", at(f"{STAGE}/best.pt", change), f"{SET}trainings.all.folds.kind=mosaic --set trainings.all.folds.checkpoint={{run}}/trainings/random/fold-0/cosine/best.pt", f"best.pt {names}", remedy)
      for how, change, names, remedy in (
        ("cut", cut, "is damaged", "restore it"), ("empty", empty, "is damaged", "restore it"), ("flipped", flip, "is damaged", "restore it"), ("binary", binary, "is damaged", "restore it"),
        ("missing", gone, "cannot be read", "to an existing file"), ("a folder", folder, "cannot be read", "to an existing file"))),
    *(Case(f"weights {how}", at("w.pt", change), f"train {FRESH} --set network.pretrained={{tmp}}/w.pt", "w.pt", remedy)
      for how, change, remedy in (("empty", empty, "safetensors"), ("binary", binary, "safetensors"), ("a text", text("w"), "safetensors"), ("a folder", Path.mkdir, "name the weights"))),
    *(Case(f"test truth {how}", at("data/truth/masks/{t}.png", change), f"score {AGAIN}", "{t}.png", "restore")
      for how, change in (("cut", cut), ("empty", empty), ("missing", gone), ("of another size", picture(NOISE[..., 0])))),
    *(Case(f"a file for {place}", at(f"run/{place}", file), f"{command} {AGAIN}", place, remedy)
      for place, command, remedy in (
        ("folds", "prepare", "remove what is in its place"), ("mosaics", "mosaic", "remove what is in its place"), ("trainings", "score", "remove what is in its place"),
        ("predictions", "submit", "remove what is in its place"), ("postprocessing", "score", "remove what is in its place"),
        ("predictions/random/fold-0/cosine/chunks", "submit", "remove what is in its place"))),
    Case("a file for the run", at("run", file), f"score {AGAIN}", "cannot write to {run}", "choose another --run-dir"),
    Case("a folder for the submission", at("run/submission.csv", folder), f"submit {AGAIN}", "submission.csv", "remove what is in its place"),
    Case("a folder for the report", at("run/report.html", Path.mkdir), f"report {AGAIN}", "report.html", "remove what is in its place"),
    Case("a folder for the lock", at("run/.lock", folder), f"score {AGAIN}", "cannot write to {run}", "choose another --run-dir"),
    *(Case(f"study.db {how}", at(DATABASE, change), command, "study.db" if how != "missing" else "search holds no study", remedy)
      for how, change, command, remedy in (
        ("cut", cut, "study {search}", "restore it"), ("empty", empty, "study {search}", "restore it"), ("binary", binary, "study {search}", "restore it"),
        ("text", text("trials"), "study {search}", "restore it"), ("missing", gone, "study {search}", "tune --run-dir"), ("a folder", folder, "study {search}", "restore it"),
        ("binary to go on", binary, "tune --data {data} --run-dir {search}", "restore it"), ("empty to go on", empty, "tune --data {data} --run-dir {search}", "restore it"))),
    Case("study inputs cut", at("search/study/inputs.json", cut), "prepare --data {data} --run-dir {search}", "inputs.json is damaged", "delete"),
    Case("trial's experiment missing", at("search/study/trials/0000/experiment.json", gone), "study {search}", "0000/experiment.json is missing", "restore it"),
    Case("trial's experiment cut", at("search/study/trials/0000/experiment.json", cut), "study {search}", "0000/experiment.json is not valid JSON", "fix it"),
    Case("a file for the study", at("search/study", file), "study {search}", "study", "tune --run-dir"),
]  # fmt: skip

CASES = [*SURVEY, *OWN_FORMATS, *TABLES, *OPTIONS, *PYTHON, *JSONS, *HOLDOUTS, *MARKERS, *APPLIED, *RUNS]
