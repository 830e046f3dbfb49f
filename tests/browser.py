"""What tests do with a page in headless Chromium, the fixture ``browser``."""

import base64
import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from selenium.webdriver import Chrome


def show(chrome: "Chrome", *, width: int, scheme: str) -> None:
    """Set the width of the page, and which theme the system has."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    chrome.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    chrome.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def find(chrome: "Chrome", selector: str) -> Any:
    return chrome.find_element("css selector", selector)


def find_all(chrome: "Chrome", selector: str) -> list[Any]:
    return [*chrome.find_elements("css selector", selector)]


def take_picture(chrome: "Chrome", selector: str) -> NDArray[np.uint8]:
    """The pixels of an element, as they are on the screen: (height, width, 3)."""
    from PIL import Image

    box = find(chrome, selector).rect
    taken = chrome.execute_cdp_cmd(
        "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": {**box, "scale": 1}}
    )
    picture = Image.open(io.BytesIO(base64.b64decode(taken["data"])))
    return np.asarray(picture.convert("RGB"))


def list_requests(chrome: "Chrome") -> list[str]:
    """Every URL that was asked for since the last time."""
    entries = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    asked = [entry for entry in entries if entry["method"] == "Network.requestWillBeSent"]
    return [entry["params"]["request"]["url"] for entry in asked]
