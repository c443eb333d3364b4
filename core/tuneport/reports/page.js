// The page is complete without this: it lets one search the compared rows.
(() => {
  const find = document.getElementById("find");
  if (!find) return;
  find.hidden = false;
  const groups = [...document.querySelectorAll("section.group")];
  find.addEventListener("input", () => {
    const wanted = find.value.trim().toLowerCase();
    for (const group of groups) {
      let shown = 0;
      for (const row of group.querySelectorAll("article.row")) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        shown += row.hidden ? 0 : 1;
      }
      for (const rest of group.querySelectorAll(":scope > details")) rest.open = wanted !== "";
      group.hidden = shown === 0;
    }
  });
})();
