"""Cutting a person out of a photo at the model's size, and pasting the model's picture back.

`framing` scales the whole photo instead, as training and the paper do.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.nn import functional

from .framing import mask_tensor, rgb_photo
from .inpainting import CELL, THRESHOLD, composite, fit_mask, resize
from .pose import CUT_OUT, pose_of_frame, present

logger = logging.getLogger(__name__)

CONTEXT = 0.25
"""Margin around a mask, a fraction of its width and height on each side."""
_NECK, _HEAD, _HIPS, _LEGS = 1, (0, 14, 15, 16, 17), (8, 11), ((9, 10), (12, 13))
"""Joints of COCO-18: the neck, the face with the nose first, the hips, knees with ankles."""
_CROWN, _FOOT = 1.1, 0.4
"""Crown above the nose in lengths from neck to nose, sole below the ankle in those of the shin."""
_SOFT = 2.0
"""A part of the photo that is enlarged by more than this gets a warning."""
_STRIP = 256
"""Rows that are pasted at a time, which bounds the memory that a large photo takes."""

Size = tuple[int, int]
"""Height and width in pixels."""
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Frame:
    """Where on a photo the model's canvas lies.

    photo, canvas: height and width. box: left, top, right, bottom in pixels of the photo, with the
    canvas' proportions to within a pixel; where the photo is too narrow or low for them, the box
    reaches beyond it.
    """

    photo: Size
    canvas: Size
    box: tuple[int, int, int, int]

    @property
    def inside(self) -> tuple[int, int, int, int]:
        """The part of the box that lies on the photo: left, top, right, bottom."""
        left, top, right, bottom = self.box
        return max(left, 0), max(top, 0), min(right, self.photo[1]), min(bottom, self.photo[0])

    @property
    def beyond(self) -> tuple[int, int, int, int]:
        """How far the box reaches beyond the photo: left, right, top, bottom, 0 or more."""
        left, top, right, bottom = self.box
        height, width = self.photo
        return max(-left, 0), max(right - width, 0), max(-top, 0), max(bottom - height, 0)

    @property
    def scale(self) -> float:
        """How many pixels of the canvas there are to one of the photo."""
        return self.canvas[0] / (self.box[3] - self.box[1])

    def __str__(self) -> str:
        left, top, right, bottom = self.box
        return (
            f"{right - left}x{bottom - top} at ({left}, {top}) of {self.photo[1]}x{self.photo[0]}, "
            f"as {self.canvas[1]}x{self.canvas[0]}"
        )


@dataclass(frozen=True)
class CutOut:
    """A person cut out of a photo, with mask and keypoints on the canvas."""

    image: torch.Tensor
    """(1, height, width, 3) float32 in 0..1, see `cut_image`."""
    mask: torch.Tensor
    """(1, height, width) float32 in 0..1."""
    keypoints: np.ndarray | None
    """(18, 3): x, y in pixels of the canvas, confidence."""
    frame: Frame
    photo: torch.Tensor
    """(H, W, 3) uint8."""
    photo_mask: torch.Tensor
    """(H, W) float32 in 0..1."""

    def paste(self, generated: torch.Tensor, feather: int) -> Image.Image:
        """Put the model's picture (h, w, 3) in its place on the photo; see `paste_back`."""
        pasted = paste_back(self.photo, generated, self.photo_mask, self.frame, feather)
        return Image.fromarray(pasted.numpy())


def cut_out(
    photo: Image.Image,
    mask: Image.Image | np.ndarray,
    keypoints: np.ndarray | None,
    canvas: Size,
    context: float = CONTEXT,
) -> CutOut:
    """Cut the person out of a photo of any mode; see `find_frames`.

    Args:
        mask: white = repaint, as in `framing.frame`; of another size, it is resized to the photo.
        keypoints: (18, 3), x and y in pixels of the photo.
    """
    pixels = torch.from_numpy(np.array(rgb_photo(photo)))
    masks = fit_mask(mask_tensor(mask), (photo.height, photo.width))
    (frame,) = find_frames(masks, [keypoints], canvas, context)
    return CutOut(
        image=cut_image(pixels, frame)[None],
        mask=cut_mask(masks[0], frame)[None],
        keypoints=None if keypoints is None else move_keypoints(keypoints, frame),
        frame=frame,
        photo=pixels,
        photo_mask=masks[0],
    )


def find_frames(
    masks: torch.Tensor,
    keypoints: Sequence[np.ndarray | None],
    canvas: Size,
    context: float = CONTEXT,
) -> tuple[Frame, ...]:
    """Lay the canvas over what is to be repainted, once for each photo of a batch.

    The box holds the mask and its margin, and those of the person's head and feet that are known
    and belong to what is painted (see `_head_and_feet`), as far as they lie on the photo; it grows
    to the canvas' proportions about their middle, and is moved so that it stays on the photo.

    Args:
        masks: (b, H, W) float in 0..1, of the photos' size; 1 = repaint, split at 0.5.
        keypoints: of each photo (18, 3), x and y in its pixels, or None.
        canvas: height and width.
        context: margin on each side, a fraction of the mask's width and height, 0 or more.

    Raises:
        ValueError: an empty mask, or a negative context.
    """
    if not context >= 0:
        raise ValueError(f"context is {context!r}, expected a number of 0 or more.")
    frames = []
    for number, (mask, joints) in enumerate(zip(masks, keypoints, strict=True)):
        hard = mask >= THRESHOLD
        if not bool(hard.any()):
            raise ValueError(
                f"mask {number} is empty: its largest value is {mask.max().item():.3g}, and only "
                f"pixels from {THRESHOLD} on are repainted. Paint the part to be dressed white "
                "(1); if the mask was made for another picture, connect the right one."
            )
        size = (hard.shape[0], hard.shape[1])
        bounds = _bounds(hard)
        wanted = _with_margin(bounds, context)
        if joints is not None:
            wanted = _around([wanted, *_head_and_feet(joints, size, bounds)])
        found = Frame(size, canvas, _fitted(_on_photo(wanted, size), size, canvas))
        if found.scale > _SOFT:
            logger.warning(
                "Photo %d: the part to be painted is enlarged %.1f times (%s): expect it to look "
                "soft. A larger photo, a larger mask or a smaller canvas helps.",
                number,
                found.scale,
                found,
            )
        frames.append(found)
    return tuple(frames)


def cut_image(photo: torch.Tensor, frame: Frame) -> torch.Tensor:
    """Cut the frame out of a photo (H, W, 3): (h, w, 3) float32 in 0..1; uint8 counts as 0..255.

    Bicubic, antialiased where it shrinks; beside the photo its edge goes on.

    Raises:
        ValueError: a photo of another size than the frame's.
    """
    check_photo(photo, frame)
    left, top, right, bottom = frame.inside
    part = photo[top:bottom, left:right]
    return _on_canvas(part[..., :3], frame, "bicubic").clamp(0, 1)


def cut_mask(mask: torch.Tensor, frame: Frame) -> torch.Tensor:
    """Cut the frame out of a mask (H, W) of the photo's size: (h, w) float32 in 0..1."""
    left, top, right, bottom = frame.inside
    return _on_canvas(mask[top:bottom, left:right, None], frame, "bilinear")[..., 0]


def move_keypoints(keypoints: np.ndarray, frame: Frame) -> np.ndarray:
    """Move keypoints (n, 3) from pixels of the photo to those of the canvas; missing ones are 0."""
    left, top, right, bottom = frame.box
    moved = np.array(keypoints, dtype=np.float64)
    moved[:, 0] = (moved[:, 0] - left) * frame.canvas[1] / (right - left)
    moved[:, 1] = (moved[:, 1] - top) * frame.canvas[0] / (bottom - top)
    moved[moved[:, 2] <= 0] = 0
    return moved


def move_pose(pose: Mapping[str, Any] | None, frame: Frame) -> dict[str, Any]:
    """Move a POSE_KEYPOINT frame from the photo to the canvas: bodies, hands and faces.

    Bodies are given in COCO-18 order, the largest first; joints beside the canvas keep their places
    there. Left out are people without a body, and hands and faces that are no lists of x, y,
    confidence.

    Raises:
        ValueError: see `pose_of_frame`; or the joints are of another picture than the photo.
    """
    read = pose_of_frame(pose)
    height, width = (1, 1) if read.shares else read.frame or frame.photo
    scale = (frame.photo[1] / width, frame.photo[0] / height, 1)
    people = []
    for entry, body in zip(read.entries, read.on_photo(frame.photo), strict=True):
        parts = _hands_and_face(entry)
        moved = {name: move_keypoints(part * scale, frame) for name, part in parts.items()}
        moved["pose_keypoints_2d"] = move_keypoints(body, frame)
        people.append({name: part.flatten().tolist() for name, part in moved.items()})
    size = {"canvas_height": frame.canvas[0], "canvas_width": frame.canvas[1]}
    return {**size, CUT_OUT: True, "people": people}


def _hands_and_face(person: Any) -> dict[str, np.ndarray]:
    """Read a person's lists of x, y, confidence beside the body's: (n, 3) each."""
    found = {}
    for name, values in person.items() if isinstance(person, Mapping) else ():
        if not name.endswith("_2d") or name == "pose_keypoints_2d":
            continue
        try:
            part = np.array(values, dtype=np.float64).reshape(-1, 3)
        except (TypeError, ValueError, OverflowError):
            continue
        if len(part):
            found[name] = np.nan_to_num(part, posinf=0, neginf=0)
    return found


def paste_back(
    photo: torch.Tensor, generated: torch.Tensor, mask: torch.Tensor, frame: Frame, feather: int
) -> torch.Tensor:
    """Paste the model's picture into the frame's place on the photo; see `composite`.

    Args:
        photo: (H, W, 3) float in 0..1, or uint8.
        generated: (h, w, 3) float in 0..1: the canvas, or the canvas padded to multiples of 8
            (cropped); another size is resized.
        mask: (H, W) float in 0..1, of the photo's size. What of it lies beyond the frame's box is
            not painted.
        feather: width of the transition in pixels of the photo, 0 or more.

    Returns:
        A new tensor of the photo's size and type; outside the mask its very values.

    Raises:
        ValueError: a photo of another size than the frame's.
    """
    check_photo(photo, frame)
    result = photo[..., :3].clone()
    left, top, right, bottom = frame.inside
    hard = torch.zeros(mask.shape, dtype=torch.bool)
    hard[top:bottom, left:right] = (mask[top:bottom, left:right] >= THRESHOLD).cpu()
    if not bool(hard.any()):
        return result
    first_column, first_row, last_column, last_row = _bounds(hard)
    # The pixels around the mask tell how deep inside it one lies.
    columns = slice(max(first_column - 1, 0), min(last_column + 1, frame.photo[1]))
    height, width = frame.canvas
    if tuple(generated.shape[:2]) == (height + -height % CELL, width + -width % CELL):
        generated = generated[:height, :width]
    rows_of = _Enlarged(generated[..., :3], frame)
    for start in range(first_row, last_row, _STRIP):
        stop = min(start + _STRIP, last_row)
        rows = slice(max(start - feather - 1, 0), min(stop + feather + 1, frame.photo[0]))
        pasted = composite(
            _as_float(result[rows, columns])[None],
            rows_of(rows, columns)[None].to(result.device),
            hard[rows, columns][None].float(),
            feather,
        )[0, start - rows.start : stop - rows.start]
        if result.dtype == torch.uint8:
            pasted = pasted.mul(255).round()
        result[start:stop, columns] = pasted.to(result.dtype)
    return result


def check_photo(photo: torch.Tensor, frame: Frame) -> None:
    """Refuse a photo (H, W, 3) that the frame was not found on.

    Raises:
        ValueError: another size than the frame's, or no three channels.
    """
    if photo.ndim != 3 or photo.shape[-1] < 3 or tuple(photo.shape[:2]) != frame.photo:
        raise ValueError(
            f"The picture has the shape {tuple(photo.shape)}, the frame is of a photo of "
            f"{frame.photo[1]}x{frame.photo[0]} pixels: connect the photo that was framed."
        )


class _Enlarged:
    """The model's picture at the size of the frame's box, read a few rows at a time."""

    def __init__(self, generated: torch.Tensor, frame: Frame):
        self._left, self._top, right, self._bottom = frame.box
        self._height = self._bottom - self._top
        rows = min(generated.shape[0], self._height)
        pixels = generated.movedim(-1, 0)[None].float()
        self._pixels = resize(pixels, (rows, right - self._left))[0]

    def __call__(self, rows: slice, columns: slice) -> torch.Tensor:
        """Return (rows, columns, 3) float32 of the photo; beyond the box its edge goes on."""
        known = self._pixels.shape[1]
        places = torch.arange(rows.start, rows.stop, dtype=torch.float64) - self._top
        places = ((places + 0.5) * known / self._height - 0.5).clamp(0, known - 1)
        above = places.floor().long()
        below = (above + 1).clamp(max=known - 1)
        across = torch.arange(columns.start, columns.stop) - self._left
        pixels = self._pixels[:, :, across.clamp(0, self._pixels.shape[2] - 1)]
        weight = (places - above).float()[:, None].to(pixels.device)
        return torch.lerp(pixels[:, above], pixels[:, below], weight).movedim(0, -1)


def _bounds(hard: torch.Tensor) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom of what is true in (H, W)."""
    rows, columns = (hard.any(dim=axis).nonzero()[:, 0] for axis in (1, 0))
    left, right = int(columns[0]), int(columns[-1])
    return left, int(rows[0]), right + 1, int(rows[-1]) + 1


def _with_margin(box: Box, share: float) -> Box:
    left, top, right, bottom = box
    across, down = share * (right - left), share * (bottom - top)
    return left - across, top - down, right + across, bottom + down


def _around(boxes: Sequence[Box]) -> Box:
    lefts, tops, rights, bottoms = zip(*boxes, strict=True)
    return min(lefts), min(tops), max(rights), max(bottoms)


def _on_photo(box: Box, photo: Size) -> Box:
    height, width = photo
    left, top, right, bottom = box
    return max(left, 0), max(top, 0), min(right, width), min(bottom, height)


def _head_and_feet(keypoints: np.ndarray, photo: Size, mask: Box) -> list[Box]:
    """Return boxes around head and feet, of those joints (18, 3) that lie on the photo.

    As in the training pictures, the head belongs to a mask that reaches above the middle of the
    trunk, the feet to one that reaches below the knees: a top is not painted small for the sake of
    shoes. Where hips or knees are not known, both belong to it.
    """
    places = keypoints[:, :2]
    on_photo = ((places >= 0) & (places <= (photo[1], photo[0]))).all(axis=1)
    there = present(keypoints) & on_photo
    boxes = []
    head = [joint for joint in _HEAD if there[joint]]
    hips = [joint for joint in _HIPS if there[joint]]
    low = bool(hips) and there[_NECK] and mask[1] > places[[_NECK, *hips], 1].mean()
    if head and not low:
        left, top = places[head].min(axis=0)
        right, bottom = places[head].max(axis=0)
        reach = max(right - left, bottom - top)
        if there[_NECK]:
            reach = max(reach, abs(places[_NECK, 1] - places[head[0], 1]))
        middle = places[head[0], 1]
        boxes.append((left - reach / 2, middle - _CROWN * reach, right + reach / 2, bottom))
    for knee, ankle in _LEGS:
        if there[ankle] and not (there[knee] and mask[3] < places[knee, 1]):
            x, y = places[ankle]
            shin = np.linalg.norm(places[ankle] - places[knee]) if there[knee] else 0.0
            boxes.append((x - shin / 4, y, x + shin / 4, y + _FOOT * shin))
    return boxes


def _fitted(wanted: Box, photo: Size, canvas: Size) -> tuple[int, int, int, int]:
    """Return the smallest box of the canvas' proportions around the box `wanted`."""
    height, width = photo
    left, top, right, bottom = np.floor(wanted[:2]).tolist() + np.ceil(wanted[2:]).tolist()
    ratio = canvas[1] / canvas[0]
    across, down = right - left, bottom - top
    if across < down * ratio:
        across = max(across, round(down * ratio))
    else:
        down = max(down, round(across / ratio))
    start_x = _placed((left + right - across) / 2, across, width)
    start_y = _placed((top + bottom - down) / 2, down, height)
    return start_x, start_y, start_x + int(across), start_y + int(down)


def _placed(start: float, length: float, limit: int) -> int:
    """Return where a stretch begins so that it lies within 0 and `limit`, or these within it."""
    low, high = sorted((0, int(limit - length)))
    return min(max(round(start), low), high)


def _as_float(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.float().div_(255) if pixels.dtype == torch.uint8 else pixels.float()


def _on_canvas(values: torch.Tensor, frame: Frame, mode: str) -> torch.Tensor:
    """Resize what of a photo lies in the frame, continued to the whole box, to (h, w, channels).

    values: (H, W, channels), the part inside the photo. It is resized across first, some rows at a
    time: a large photo is never held in float as a whole.
    """
    left, right, above, below = frame.beyond
    height, width = frame.canvas
    narrow = []
    for rows in values.split(_STRIP):
        part = _as_float(rows).movedim(-1, 0)[None]
        if left or right:
            part = functional.pad(part, (left, right, 0, 0), mode="replicate")
        if part.shape[3] != width:
            size = (part.shape[2], width)
            part = functional.interpolate(part, size=size, mode=mode, antialias=True)
        narrow.append(part)
    result = torch.cat(narrow, dim=2)
    if above or below:
        result = functional.pad(result, (0, 0, above, below), mode="replicate")
    if result.shape[2] != height:
        size = (height, width)
        result = functional.interpolate(result, size=size, mode=mode, antialias=True)
    return result[0].movedim(0, -1)
