"""Look at a finished run in the browser: cameras, cloud and mesh, depth and confidence, distances with error bars.

    python -m export.view logs/phantom [--port 8080]

The page is served on 127.0.0.1 alone. Two clicks measure a distance: the error bar is one standard deviation by
the views that see the two points (`export.viewer.measuring`), without errors of the poses.
"""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from export.measured_run import MeasuredRun, View
from export.shapes import Shape, read_shape
from export.viewer.layers import LAYERS, frame_pictures, shape_colours, thumbnail
from export.viewer.tape import Tape
from export.viewer.unlit_glb import unlit_glb
from utils.commands import answer
from utils.errors import InputError
from utils.finished_run import require_fitting, require_stages
from utils.images import natural_key
from utils.types import FloatArray

HOST = "127.0.0.1"
CAMERAS = ("all", "chosen", "none")
THUMBNAIL_PX, PANEL_PX = 96, 480
CHOSEN, OTHERS, PIN = (255, 140, 0), (120, 120, 130), (255, 0, 200)
# Of the working distance: cameras, the chosen one, pins, where the page's own camera starts, its clipping.
SMALL, LARGE, PIN_RADIUS, BACK, NEAR, FAR = 0.02, 0.06, 0.01, 0.3, 0.005, 100.0


class Viewer:
    """The page of one run; `close` stops serving it.

    Raises:
        InputError: viser is not installed, or the run has no cloud or no depth, or its stages do not fit.
    """

    def __init__(self, run: Path, port: int) -> None:
        viser = _viser()
        require_stages(run, "scene", "export")
        require_fitting(run, "export")
        self.run = MeasuredRun.load(run)
        self.shapes = _shapes(run / "export")
        self.tape = Tape(self.run)
        self.names = sorted({name for _, name in self.run.views}, key=natural_key)
        self.working_mm = self.run.working_distance()
        self.lock = threading.RLock()
        self.server = viser.ViserServer(
            host=HOST, port=port, label=f"Specula: {run.resolve().name}", verbose=False
        )
        self.frusta: dict[View, Any] = {}
        self.pins: list[Any] = []
        self._controls()
        self.shown = self.view
        self._cameras()
        self._start_view()
        self.show_shape()
        self.show_frame()
        self.show_tape()
        self.server.scene.on_click()(lambda event: self.click(event.ray_origin, event.ray_direction))

    @property
    def address(self) -> str:
        """Where the page is."""
        return f"http://{self.server.get_host()}:{self.server.get_port()}"

    def close(self) -> None:
        """Stop serving."""
        self.server.stop()

    @property
    def view(self) -> View:
        """The chosen view: the slider's frame, of the eye that has one there."""
        name = self.names[int(self.frame.value) - 1]
        chosen: View = ("right" if self.eye.value == "right" else "left", name)
        return chosen if chosen in self.run.views else next(view for view in self.run.views if view[1] == name)

    def click(self, origin: Sequence[float], direction: Sequence[float]) -> None:
        """Pin the point under a click, if there is one, and say what is between two."""
        with self.lock:
            points = self.shapes[self.shape.value].points_world
            self.tape.click(points, np.array(origin, float), np.array(direction, float))
            self.show_tape()

    def show_tape(self) -> None:
        """Bring pins, line and words up to date."""
        for pin in self.pins:
            pin.remove()
        places = [pin.place_world for pin in self.tape.pins]
        radius = PIN_RADIUS * self.working_mm
        self.pins = [
            self.server.scene.add_icosphere(f"/tape/{index}", radius, PIN, position=place, cast_shadow=False)
            for index, place in enumerate(places)
        ]
        if len(places) == 2:
            line = np.array([places])
            self.pins.append(
                self.server.scene.add_line_segments("/tape/line", line, PIN, thickness=3, thickness_units="screen")
            )
            middle = (places[0] + places[1]) / 2
            self.pins.append(self.server.scene.add_label("/tape/length", self.tape.label, position=middle))
        self.length.content = self.tape.words

    def show_shape(self) -> None:
        """Draw cloud or mesh in the chosen layer."""
        with self.lock:
            chosen = self.shapes[self.shape.value]
            colours = shape_colours(chosen, self.layer.value, self.run.world_from(self.view))
            if len(chosen.faces):
                self.server.scene.add_glb("/surface", unlit_glb(chosen, colours), cast_shadow=False)
            else:
                self.server.scene.add_point_cloud(
                    "/surface",
                    chosen.points_world.astype(np.float32),
                    colours,
                    point_size=float(self.size.value) * self.working_mm / 1000,
                    point_shading="flat",
                    precision="float32",
                )

    def show_frame(self) -> None:
        """Show the chosen frame's maps in the panel, and the chosen layer on its camera."""
        with self.lock:
            found = frame_pictures(self.run, self.view)
            for layer, panel in self.panels.items():
                panel.image = thumbnail(found.pictures[layer], PANEL_PX)
            side, name = self.view
            split = self.run.scene.split(name)
            self.legend.content = f"**{name}**, {side} eye{f' ({split})' if split else ''}. {found.legend}"
            for view, frustum in self.frusta.items():
                frustum.visible = self.cameras.value == "all" or (
                    self.cameras.value == "chosen" and view == self.view
                )
                frustum.color = CHOSEN if view == self.view else OTHERS
                frustum.scale = (LARGE if view == self.view else SMALL) * self.working_mm
            if self.shown != self.view:
                self.frusta[self.shown].image = thumbnail(self.run.scene.image(*self.shown), THUMBNAIL_PX)
                self.shown = self.view
            self.frusta[self.shown].image = thumbnail(found.pictures[self.layer.value], PANEL_PX)

    def _controls(self) -> None:
        gui = self.server.gui
        gui.configure_theme(control_width="large", show_share_button=False, show_logo=False)
        gui.main_panel.dock_right()
        with gui.add_folder("Distance"):
            self.length = gui.add_markdown("")
            clear = gui.add_button("Clear")
        with gui.add_folder("Surface"):
            self.shape = gui.add_dropdown("Show", tuple(self.shapes), initial_value=next(iter(self.shapes)))
            self.layer = gui.add_dropdown("Layer", LAYERS, initial_value=LAYERS[0])
            self.size = gui.add_slider(
                "Point size", 1.0, 10.0, 0.5, 4.0, hint="thousandths of the working distance"
            )
            self.cameras = gui.add_dropdown("Cameras", CAMERAS, initial_value=CAMERAS[0])
        with gui.add_folder("Frame"):
            self.frame = gui.add_slider("Frame", 1, max(len(self.names), 2), 1, 1, disabled=len(self.names) < 2)
            self.eye = gui.add_dropdown("Eye", self.run.scene.sides, initial_value="left")
            look = gui.add_button("Look from here")
            self.legend = gui.add_markdown("")
            pictures = frame_pictures(self.run, self.view).pictures
            self.panels = {
                layer: gui.add_image(thumbnail(pictures[layer], PANEL_PX), label=layer, format="jpeg")
                for layer in LAYERS
            }
        for control in (self.shape, self.size):
            control.on_update(lambda _: self.show_shape())
        self.cameras.on_update(lambda _: self.show_frame())
        self.layer.on_update(lambda _: self.show_shape())
        self.layer.on_update(lambda _: self.show_frame())
        for control in (self.frame, self.eye):
            control.on_update(lambda _: self._frame_changed())
        clear.on_click(lambda _: self._clear())
        look.on_click(lambda event: self._look(event.client))

    def _frame_changed(self) -> None:
        self.show_frame()
        if self.layer.value == "depth":  # it is depth from the chosen camera
            self.show_shape()

    def _clear(self) -> None:
        with self.lock:
            self.tape.pins.clear()
            self.show_tape()

    def _cameras(self) -> None:
        """Draw a frustum a view with its image."""
        for side, name in self.run.views:
            camera, pose = self.run.scene.rig.camera(side), self.run.world_from((side, name))
            self.frusta[side, name] = self.server.scene.add_camera_frustum(
                f"/cameras/{side}_{name}",
                fov=2 * float(np.arctan(0.5 * camera.height / camera.fy)),
                aspect=camera.width / camera.height,
                scale=SMALL * self.working_mm,
                thickness=1.5,
                thickness_units="screen",
                color=OTHERS,
                image=thumbnail(self.run.scene.image(side, name), THUMBNAIL_PX),
                format="jpeg",
                wxyz=_wxyz(pose),
                position=pose[:3, 3],
                cast_shadow=False,
                receive_shadow=False,
            )

    def _start_view(self) -> None:
        """Let the page start behind and above the middle camera, looking at the surface."""
        pose = self.run.world_from(self.run.views[len(self.run.views) // 2])
        self.server.scene.set_up_direction(tuple(-pose[:3, 1]))
        start = self.server.initial_camera
        offset = np.array([0.3, -0.35, -BACK]) * self.working_mm
        start.position = tuple(pose[:3, 3] + pose[:3, :3] @ offset)
        start.look_at = tuple(np.median(self.shapes["points"].points_world, axis=0))
        start.up = tuple(-pose[:3, 1])
        start.near, start.far = NEAR * self.working_mm, FAR * self.working_mm

    def _look(self, client: Any) -> None:
        """Move the page's camera to the chosen view, and hide the cameras: it would stand among them."""
        self.cameras.value = "none"
        self.show_frame()
        pose = self.run.world_from(self.view)
        camera = self.run.scene.rig.camera(self.view[0])
        with client.atomic():
            client.camera.position = pose[:3, 3]
            client.camera.look_at = pose[:3, 3] + self.working_mm * pose[:3, 2]
            client.camera.up_direction = -pose[:3, 1]
            client.camera.fov = 2 * float(np.arctan(0.5 * camera.height / camera.fy))


def _viser() -> Any:
    try:
        import viser
    except ImportError as error:
        raise InputError(
            "the viewer needs viser, which is not installed",
            found=str(error),
            expected="the extra `viewer`",
            do="pip install -e .[viewer]",
        ) from error
    return viser


def _shapes(folder: Path) -> dict[str, Shape]:
    """Read what the stage `export` wrote, the cloud first."""
    if not (folder / "cloud.ply").is_file():
        raise InputError(
            f"{folder} has no cloud.ply",
            found="no such file",
            expected="what the stage `export` writes",
            do="export again: python run.py with the run's configuration and --from export",
        )
    names = {"points": "cloud.ply", "mesh": "mesh.ply"}
    return {kind: read_shape(folder / name) for kind, name in names.items() if (folder / name).is_file()}


def _wxyz(world_from_camera: FloatArray) -> FloatArray:
    return np.roll(Rotation.from_matrix(world_from_camera[:3, :3]).as_quat(), 1)


def show(run: Path, port: int) -> str:
    """Serve a run until Ctrl-C."""
    if not 1 <= port <= 65535:
        raise InputError("--port is none", found=str(port), expected="1 to 65535", do="correct the flag")
    viewer = Viewer(run, port)
    try:
        print(f"{viewer.address}   (Ctrl-C stops)", flush=True)
        threading.Event().wait()
    except KeyboardInterrupt:
        viewer.close()
    return "stopped"


def main(arguments: Sequence[str]) -> int:
    """Run the command line; return the exit status (see `utils.commands`)."""
    parser = argparse.ArgumentParser(prog="python -m export.view", description="Look at a finished run.")
    parser.add_argument("run", type=Path, help="folder of the run, logs/<expname>")
    parser.add_argument(
        "--port", type=int, default=8080, help="of 127.0.0.1; default 8080, the next if it is taken"
    )
    words = parser.parse_args(arguments)
    return answer(lambda: show(words.run, words.port))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
