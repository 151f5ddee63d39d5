// Classes by what is typed of their name.

export function classLike(categories, typed) {
  const text = typed.toLowerCase();
  const by = (holds) => categories.find(({name}) => holds(name, name.toLowerCase()));
  return by((name) => name === typed) ?? by((_, name) => name === text) ??
    by((_, name) => name.startsWith(text)) ?? by((_, name) => name.includes(text));
}
