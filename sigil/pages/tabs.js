// Tabs as in the ARIA practices: one tab stop, arrow keys, Home and End. The chosen panel is shown at once.

/** All tab lists of the page. Lists with the same `data-group` offer the same choices: they change together. */
export class Tabs {
  #lists;
  #onChoose;

  /** `onChoose(group, choice)` is called when a person chooses. */
  constructor(onChoose = () => {}) {
    this.#onChoose = onChoose;
    this.#lists = [...document.querySelectorAll('[role="tablist"]')];
    for (const list of this.#lists) {
      list.addEventListener("click", (event) => this.#chooseTab(event.target.closest('[role="tab"]')));
      list.addEventListener("keydown", (event) => this.#onKeydown(event, list));
      this.choose(list.dataset.group, list.querySelector('[role="tab"]').dataset.choice);
    }
  }

  /** Selects a choice in every list of the group. A list without that choice stays as it is. */
  choose(group, choice) {
    for (const list of this.#lists.filter((other) => other.dataset.group === group)) {
      const tabs = tabsOf(list);
      if (!tabs.some((tab) => tab.dataset.choice === choice)) continue;
      for (const tab of tabs) {
        const selected = tab.dataset.choice === choice;
        tab.setAttribute("aria-selected", `${selected}`);
        tab.tabIndex = selected ? 0 : -1;
        document.getElementById(tab.getAttribute("aria-controls")).hidden = !selected;
      }
    }
  }

  #chooseTab(tab) {
    if (!tab) return;
    const { group } = tab.parentElement.dataset;
    this.choose(group, tab.dataset.choice);
    tab.focus();
    this.#onChoose(group, tab.dataset.choice);
  }

  #onKeydown(event, list) {
    const tabs = tabsOf(list);
    const at = tabs.indexOf(event.target);
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1 + tabs.length, Home: 0, End: tabs.length - 1 }[event.key];
    if (at === -1 || next === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.#chooseTab(tabs[next % tabs.length]);
  }
}

function tabsOf(list) {
  return [...list.querySelectorAll('[role="tab"]')];
}
