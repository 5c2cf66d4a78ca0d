"""The page's ways: English and Chinese, light and dark, by keyboard, on a telephone; each choice is remembered."""

from __future__ import annotations

import pytest

from dbpool.verdict import CODES


def test_it_speaks_chinese_and_remembers_that(open_pool, monitor, viewer):
    seen = viewer(monitor(open_pool()).url)
    seen.page.get_by_role("button", name="中文").click()
    seen.has(".verdict strong", "正常")
    assert seen.page.evaluate("document.activeElement.innerText") == "中文"
    seen.page.reload()
    seen.has(".verdict strong", "正常")
    assert seen.page.evaluate("document.documentElement.lang") == "zh-CN"
    assert seen.page.title().startswith("正常")
    seen.page.get_by_role("button", name="EN", exact=True).click()
    seen.has(".verdict strong", "Healthy")


def test_whose_browser_speaks_chinese_is_answered_so_and_in_full(open_pool, monitor, viewer):
    seen = viewer(monitor(open_pool(), actions=True).url, locale="zh-CN")
    said = seen.page.locator(
        "h2, h3, th, dt, button:not([role=tab]), .none, nav a, .stream, .figures small"
    ).all_inner_texts()
    foreign = {text for text in said if text.strip() and not any("\u4e00" <= char <= "\u9fff" for char in text)}
    assert foreign <= {"#", "EN", "\u2013"}


def test_the_theme_follows_the_system_until_one_is_chosen_and_that_is_remembered(open_pool, monitor, viewer):
    seen = viewer(monitor(open_pool()).url)
    background = "getComputedStyle(document.body).backgroundColor"
    light = seen.page.evaluate(background)
    seen.page.emulate_media(color_scheme="dark")
    seen.until(f"{background} !== '{light}'")
    dark = seen.page.evaluate(background)
    seen.page.get_by_role("button", name="Light").click()
    seen.until(f"{background} === '{light}'")
    seen.page.reload()
    seen.has(".verdict strong", "Healthy")
    assert seen.page.evaluate(background) == light
    seen.page.get_by_role("button", name="Dark").click()
    seen.until(f"{background} === '{dark}'")
    assert seen.page.evaluate("document.activeElement.innerText") == "Dark"


def test_the_range_of_the_charts_is_remembered(open_pool, monitor, viewer):
    seen = viewer(monitor(open_pool()).url)
    seen.page.get_by_role("button", name="15 min").click()
    seen.page.reload()
    seen.has("[data-choice=range] [aria-pressed=true]", "15 min")


def test_the_tabulator_reaches_all_in_the_order_in_which_it_stands(open_pool, monitor, viewer):
    seen = viewer(monitor(open_pool(), actions=True).url)
    reached = []
    for _ in range(13):
        seen.page.keyboard.press("Tab")
        reached.append(
            seen.page.evaluate("document.activeElement.ariaLabel ?? document.activeElement.innerText.split('\\n')[0]")
        )
        assert seen.page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached == [
        "Diagnostic bundle", "EN", "中文", "Auto", "Light", "Dark", "orders", "Resize", "Drain",
        "1 min", "5 min", "15 min", "Connections",
    ]  # fmt: skip


# WCAG 2, AA: 4.5 to 1; large text 3 to 1. A canvas makes of each colour its red, green and blue.
CONTRAST = """code => {
  for (const element of document.querySelectorAll("[data-code]")) element.dataset.code = code;
  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const light = color => {
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    const parts = [...canvas.getImageData(0, 0, 1, 1).data].map(part => part / 255);
    const [r, g, b] = parts.map(part => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
  };
  const behind = element => {
    const { backgroundColor } = getComputedStyle(element);
    return backgroundColor === "rgba(0, 0, 0, 0)" ? behind(element.parentElement) : backgroundColor;
  };
  const isText = node => node.nodeType === Node.TEXT_NODE && node.data.trim();
  return [...document.querySelectorAll("body *")].filter(element => {
    if (![...element.childNodes].some(isText) || !element.checkVisibility()) return false;
    const { color, fontSize, fontWeight } = getComputedStyle(element);
    const [one, other] = [light(color), light(behind(element))];
    const isLarge = parseFloat(fontSize) >= (fontWeight >= 700 ? 18.66 : 24);
    return Math.max(one, other) / Math.min(one, other) < (isLarge ? 3 : 4.5);
  }).map(element => `${element.outerHTML}: ${getComputedStyle(element).color} on ${behind(element)}`);
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_text_stands_out_from_what_is_behind_it(open_pool, monitor, viewer, theme):
    pools = [open_pool(name="orders", timeout=3), open_pool(name="billing")]
    seen = viewer(monitor(*pools, actions=True).url, color_scheme=theme)
    assert {code: seen.page.evaluate(CONTRAST, code) for code in CODES} == {code: [] for code in CODES}


def test_it_is_read_on_a_telephone_without_scrolling_sideways(open_pool, monitor, viewer):
    seen = viewer(monitor(open_pool(trace=True)).url, viewport={"width": 400, "height": 800})
    assert seen.page.evaluate("document.documentElement.scrollWidth") == 400
