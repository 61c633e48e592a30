// Elements of a page. Data reaches a page as text only.

export const byId = (id) => document.getElementById(id);
export const make = (tag, properties) => Object.assign(document.createElement(tag), properties);
export const part = (element, selector) => element.querySelector(selector);

/** A copy of a template's one element. */
export const stamp = (id) => byId(id).content.firstElementChild.cloneNode(true);

export function strongThen(element, strong, ...lines) {
  element.replaceChildren(make("b", { textContent: strong }), lines.join(" "));
}
