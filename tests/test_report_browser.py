"""The report in Debian's Chromium: it opens without an error, shows runs under the pointer, filters, fits a phone."""

import shutil

import pytest

from experiments.report.groups import group
from experiments.report.page import as_html
from experiments.report.runs import find_runs
from experiments.report.summary import summarise
from tests.result_folders import make_study

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no Chromium: apt-get install chromium chromium-driver"),
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    make_study(folder / "a", {("qmix", "3m"): 0.9, ("qmix", "8m"): 0.8, ("vdn", "3m"): 0.6, ("vdn", "8m"): 0.5})
    make_study(folder / "b", {("qmix", "3m"): 0.7, ("qmix", "8m"): 0.6}, lr=0.001)
    file = folder / "report.html"
    file.write_text(as_html(summarise(group(*find_runs([folder]))), [folder]), encoding="utf-8")
    return file


@pytest.fixture
def browser(page):
    """Opens the page in a window of a given width and waits for the plots that are in sight."""
    opened = []

    def open_at(width):
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        opened.append(driver)
        metrics = {"width": width, "height": 1200, "deviceScaleFactor": 1, "mobile": width < 700}
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        driver.execute_cdp_cmd("Network.enable", {})
        driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0},
        )
        driver.get(page.as_uri())
        wait_for(driver, "return document.querySelectorAll('#curve-0 .scatterlayer .trace').length > 0")
        return driver

    yield open_at
    for driver in opened:
        driver.quit()


def wait_for(driver, script):
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 30).until(lambda _: driver.execute_script(script))


def rows(driver, table):
    return [row.text for row in driver.find_elements("css selector", f"{table} tbody tr") if row.is_displayed()]


def choose(driver, name, value):
    from selenium.webdriver.support.ui import Select

    Select(driver.find_element("css selector", f"select[data-name='{name}']")).select_by_visible_text(value)


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_opens_offline_without_an_error_and_fits_the_width(width, browser, tmp_path):
    driver = browser(width)
    assert driver.get_log("browser") == []
    assert driver.execute_script("return document.documentElement.scrollWidth") <= width
    assert driver.find_element("tag name", "h1").text == "Results of 18 runs"
    assert driver.get_screenshot_as_png().startswith(b"\x89PNG")
    for box in driver.find_elements("css selector", ".plot"):
        assert box.size["width"] <= width


def test_a_run_under_the_pointer_shows_its_seed_folder_and_settings(browser):
    from selenium.webdriver.common.action_chains import ActionChains

    driver = browser(1280)
    x, y = driver.execute_script(
        "const plot = document.getElementById('curve-0'); plot.scrollIntoView({block: 'center'});"
        "const i = plot.data.findIndex(t => t.meta.run), full = plot._fullLayout, box = plot.getBoundingClientRect();"
        "return [box.left + full.xaxis._offset + full.xaxis.d2p(plot.data[i].x[12]),"
        "        box.top + full.yaxis._offset + full.yaxis.d2p(plot.data[i].y[12])]"
    )
    ActionChains(driver).w3c_actions.pointer_action.move_to_location(int(x) + 1, int(y))
    ActionChains(driver).move_by_offset(int(x), int(y)).perform()
    shown = wait_for(
        driver, "return [...document.querySelectorAll('#curve-0 .hovertext')].map(e => e.textContent).join()"
    )
    assert "seed" in shown and "sacred" in shown and "lr=" in shown and "steps" in shown


def test_filters_leave_the_chosen_map_algorithm_and_setting(browser):
    driver = browser(1280)
    assert len(rows(driver, "#runs")) == 18 and len(rows(driver, ".overview")) == 3
    choose(driver, "map", "8m")
    assert len(rows(driver, "#runs")) == 9 and all(text.startswith("8m") for text in rows(driver, "#runs"))
    assert not driver.find_element("id", "curve-0").is_displayed()
    choose(driver, "algorithm", "qmix")
    choose(driver, "lr", "0.001")
    assert len(rows(driver, "#runs")) == 3 and len(rows(driver, ".overview")) == 1
    choose(driver, "map", "all")
    visible = (
        "return document.getElementById('curve-0').data.filter(t => t.visible && !t.meta.run).map(t => t.meta.title)"
    )
    assert set(driver.execute_script(visible)) == {"qmix lr=0.001"}
    driver.find_element("id", "single").click()
    assert (
        driver.execute_script("return document.getElementById('curve-0').data.filter(t => t.visible && t.meta.run)")
        == []
    )
    assert driver.get_log("browser") == []


def test_light_and_dark_differ_in_page_and_plots(browser):
    driver = browser(1280)
    look = (
        "return [getComputedStyle(document.body).backgroundColor, document.getElementById('curve-0').layout.font.color]"
    )
    before = driver.execute_script(look)
    driver.find_element("id", "theme").click()
    after = driver.execute_script(look)
    assert all(one != other for one, other in zip(before, after))
