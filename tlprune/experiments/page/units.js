// Searches and sorts tables of units. Without it they are complete, in the order of their ranks.
for (const listing of document.querySelectorAll(".listing")) {
  const body = listing.querySelector("tbody"), rows = [...body.rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const field = listing.querySelector("input"), count = listing.querySelector("[role=status]");
  listing.querySelector(".search").hidden = false;
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    rows.forEach((row, place) => {
      row.hidden = !words.every((word) => texts[place].includes(word));
      found += !row.hidden;
    });
    count.textContent = words.length ? `${found} of ${rows.length}` : "";
    if (words.length) listing.querySelector("details").open = true;
  });
  const value = (row, column) => {
    const text = row.cells[column].textContent, number = Number(text.replaceAll(",", ""));
    return text === "" || Number.isNaN(number) ? text.toLowerCase() : number;
  };
  const compare = (one, other) =>
    typeof one === typeof other ? (one < other ? -1 : one > other ? 1 : 0) : typeof one === "number" ? -1 : 1;
  const heads = [...listing.querySelectorAll("thead th")];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const falls = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falls ? "descending" : "ascending");
      const keyed = rows.map((row, place) => [value(row, column), place]);
      keyed.sort((one, other) => (falls ? -1 : 1) * compare(one[0], other[0]) || one[1] - other[1]);
      body.append(...keyed.map(([, place]) => rows[place]));
    });
  });
}
