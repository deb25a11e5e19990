"""The dashboard in a real browser, with a real worker: the ways of an operator."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import urlopen

import pytest
from house import ROOT, House
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select
from waiting import wait_for

pytestmark = pytest.mark.skipif(
    not (shutil.which("chromium") and shutil.which("chromedriver")),
    reason="no chromium and chromium-driver here",
)

#: `pending dashboard`, for which a machine that is busy is no database that hangs.
PATIENT = """
from worker.cli import main
from worker.dashboard import asking
asking.PATIENCE_SECONDS = 20
main()
"""
DASHBOARD = ("python", "-c", PATIENT, "dashboard")


@pytest.fixture(scope="module")
def house(tmp_path_factory) -> Iterator[House]:
    folder = tmp_path_factory.mktemp("house")
    environment = {
        "DATABASE_URL": f"sqlite:///{folder / 'shop.db'}",
        "REDIS_URL": os.environ["REDIS_URL"],
        "REDIS_NAMESPACE": f"browser-{os.getpid()}",
        "PENDING_MODULES": "parcels",
        "PYTHONPATH": str(ROOT / "tests"),
        "SWEEP_SECONDS": "1",
        "PORT": "0",
    }
    with House(folder, **environment) as house:
        seeded = house.run("python", "-c", "import parcels; parcels.seed()")
        assert seeded.returncode == 0, seeded.stderr
        yield house


@pytest.fixture(scope="module")
def site(house) -> str:
    """Where the dashboard is; no worker works yet."""
    house.start(*DASHBOARD, ready="dashboard on ")
    return re.search(r"http://\S+", house.log(*DASHBOARD))[0]


@contextmanager
def opened(*, phone: bool = False, dark: bool = False, script: bool = True):
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    if not script:
        values = {"profile.managed_default_content_settings.javascript": 2}
        options.add_experimental_option("prefs", values)
    service = webdriver.ChromeService(shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    size = {"width": 360 if phone else 1280, "height": 740, "deviceScaleFactor": 1}
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {**size, "mobile": phone}
    )
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def browser():
    with opened() as driver:
        yield driver


def text(driver) -> str:
    return " ".join(driver.find_element(By.TAG_NAME, "body").text.split())


@contextmanager
def leading_elsewhere(driver):
    """Wait for the page that comes next."""
    old = driver.find_element(By.TAG_NAME, "html")
    yield
    wait_for(lambda: is_gone(old), what=f"the page after {driver.current_url}")
    ready = "return document.readyState === 'complete'"
    wait_for(lambda: driver.execute_script(ready), what="a page that is complete")


def is_gone(element) -> bool:
    try:
        return not element.is_enabled()
    except WebDriverException:
        return True


def follow(driver, words: str) -> None:
    """Click the first link or button that says so."""
    one = f"normalize-space()='{words}'"
    found = driver.find_elements(By.XPATH, f"//main//a[{one}]|//main//button[{one}]")
    assert found, f"no {words!r} in {driver.current_url}: {text(driver)}"
    with leading_elsewhere(driver):
        found[0].click()


def boxes_of(driver):
    """The boxes that select rows."""
    return driver.find_elements(By.CSS_SELECTOR, ".rows [name=key]")


def no_complaints(driver) -> None:
    """The browser has blocked nothing, and missed nothing."""
    assert [entry["message"] for entry in driver.get_log("browser")] == []


def test_from_something_is_late_to_retried_and_done(house, site, browser):
    browser.get(site)
    assert "flags need a look" in text(browser)
    assert "no worker" in text(browser)
    assert "10,000+" in text(browser)
    follow(browser, "30 parked")
    assert "printer is on fire" in text(browser)
    Select(browser.find_element(By.NAME, "field")).select_by_visible_text("code")
    Select(browser.find_element(By.NAME, "sign")).select_by_visible_text("is")
    with leading_elsewhere(browser):
        browser.find_element(By.NAME, "value").send_keys("c6", Keys.ENTER)
    assert "code=c6" in text(browser)
    follow(browser, "7")
    assert "Given up: nothing happens until somebody retries it." in text(browser)
    assert "labels.py:9 in label" in text(browser)
    follow(browser, "Retry…")
    assert "Retry row 7?" in text(browser)
    follow(browser, "Retry")
    assert "1 row retried" in text(browser)
    assert "Waits for a worker; none is alive" in text(browser)
    house.start("dramatiq", "worker", "parcels", "--processes", "1", "--threads", "4")
    # The page brings itself up to date.
    wait_for(lambda: "there is nothing to do" in text(browser), what=text(browser))
    assert "labelled" in text(browser)
    no_complaints(browser)


def test_all_that_are_parked_are_retried_and_done(house, site, browser):
    browser.get(f"{site}/flag?flag=parcel.needs_label&state=retrying")
    browser.find_element(By.ID, "every").click()
    boxes = boxes_of(browser)
    assert len(boxes) == 20
    assert all(box.is_selected() for box in boxes)
    boxes[0].click()
    follow(browser, "Park…")
    assert "Park 19 rows?" in text(browser)
    browser.find_element(By.ID, "reason").send_keys("the printer burns")
    follow(browser, "Park")
    assert "19 rows parked" in text(browser)
    follow(browser, "Retry all…")
    assert "Retry 1 row?" in text(browser)
    follow(browser, "Cancel")
    browser.get(f"{site}/flag?flag=parcel.needs_label&state=parked")
    follow(browser, "Retry all…")
    follow(browser, "Retry")
    assert re.search(r"\d\d rows retried", text(browser))
    wait_for(lambda: "No row is parked" in after(browser), what="all are done")
    no_complaints(browser)


def after(driver) -> str:
    driver.refresh()
    return text(driver)


def test_a_flag_is_paused_and_resumed(site, browser):
    browser.get(f"{site}/flag?flag=parcel.needs_pickup")
    follow(browser, "Pause…")
    Select(browser.find_element(By.ID, "until")).select_by_visible_text("1h")
    browser.find_element(By.ID, "reason").send_keys("the van is broken")
    follow(browser, "Pause")
    assert "parcel.needs_pickup paused" in text(browser)
    assert "the van is broken" in text(browser)
    follow(browser, "Resume…")
    follow(browser, "Resume")
    assert "the van is broken" not in text(browser)


def test_hostile_names_keys_and_errors_are_only_text(site, browser):
    browser.get(site)
    assert "<b>table</b>" in text(browser)
    follow(browser, "1 parked")
    link = browser.find_element(By.CSS_SELECTOR, ".rows tbody th a")
    assert "<script>" in link.text
    with leading_elsewhere(browser):
        link.click()
    assert text(browser).count("document.title='owned'") >= 4
    follow(browser, "Retry…")
    assert "onerror" in text(browser)
    follow(browser, "Retry")
    assert "1 row retried" in text(browser)
    assert "owned" not in browser.title.partition("·")[2]
    assert browser.execute_script("return document.images.length") == 0
    no_complaints(browser)


def test_without_javascript_everything_can_be_read_and_done(site):
    with opened(script=False) as driver:
        driver.get(f"{site}/flag?flag=parcel.needs_label&state=scheduled")
        boxes_of(driver)[0].click()
        follow(driver, "Unmark…")
        follow(driver, "Unmark")
        assert "1 row unmarked" in text(driver)
        driver.get(f"{site}/flag?flag=parcel.needs_label&state=scheduled")
        follow(driver, "More")
        assert len(boxes_of(driver)) == 50


PAGES = (
    "/",
    "/flag?flag=parcel.needs_label&state=scheduled",
    "/row?flag=parcel.needs_label&key=60",
    "/confirm?verb=park&flag=parcel.needs_label&state=scheduled&all=1",
    "/flag?flag=odd+%22%27%3Cb%3Etable%3C%2Fb%3E.needs_care&state=due",
)


def test_on_a_phone_nothing_is_wider_than_the_screen(site):
    with opened(phone=True, dark=True) as driver:
        for path in PAGES:
            driver.get(site + path)
            width = driver.execute_script("return document.documentElement.scrollWidth")
            assert width <= 360, path
            small = driver.execute_script(
                "return [...document.querySelectorAll('main button, main a.button')]"
                ".filter(one => one.getBoundingClientRect().height < 40).length"
            )
            assert small == 0, path


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read_by_day_and_in_the_dark(site, dark):
    with opened(dark=dark) as driver:
        for path in PAGES[:4]:
            driver.get(site + path)
            assert driver.execute_script(CONTRASTS) == [], path
        background = driver.execute_script(
            "return getComputedStyle(document.body).backgroundColor"
        )
        lightness = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
        assert (lightness < 60) == dark


def test_the_keyboard_is_enough(site, browser):
    browser.get(site)
    body = browser.find_element(By.TAG_NAME, "body")
    body.send_keys(Keys.TAB)
    first = browser.switch_to.active_element
    assert first.text == "Skip to the content"
    assert first.location["x"] >= 0  # it is seen while it has the focus
    first.send_keys(Keys.ENTER)
    seen = []
    for _ in range(4):
        active = browser.switch_to.active_element
        active.send_keys(Keys.TAB)
        active = browser.switch_to.active_element
        seen.append(active.text)
        assert active.value_of_css_property("outline-style") == "solid"
    assert "Pause everything…" in seen
    no_complaints(browser)


def test_numbers_are_old_when_nobody_answers(house, site, browser):
    """Last: it ends the dashboard."""
    browser.get(site)
    dashboard = next(p for p in house.processes if p.args == DASHBOARD)
    assert urlopen(f"{site}/healthz").read() == b"ok\n"
    dashboard.terminate()
    assert dashboard.wait(20) in {0, -15}
    wait_for(lambda: "No answer; the numbers are old." in text(browser))
    assert "needs_pickup" in text(browser)


#: Texts whose contrast to what is behind them is below WCAG's 4.5.
CONTRASTS = """
const rgba = text => {
  const made = document.createElement("canvas").getContext("2d");
  made.fillStyle = text; made.fillRect(0, 0, 1, 1);
  return [...made.getImageData(0, 0, 1, 1).data];
};
const light = ([r, g, b]) => [r, g, b]
  .map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
  .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
const behind = one => {
  for (; one; one = one.parentElement) {
    const colour = rgba(getComputedStyle(one).backgroundColor);
    if (colour[3] === 255) return colour;
  }
  return [255, 255, 255];
};
const poor = [];
for (const one of document.querySelectorAll("body *")) {
  const own = [...one.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!own || !one.getClientRects().length || one.closest(".hidden, .skip")) continue;
  const style = getComputedStyle(one);
  const text = light(rgba(style.color)), page = light(behind(one));
  const contrast = (Math.max(text, page) + 0.05) / (Math.min(text, page) + 0.05);
  const faded = contrast * style.opacity < 3 || (style.opacity == 1 && contrast < 4.5);
  if (faded) poor.push(`${one.className}: ${one.textContent.trim()} ${contrast}`);
}
return poor;
"""
