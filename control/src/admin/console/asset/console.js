// What a page does beside showing itself; each works without it.

// Copying needs a secure context, which a loopback address is.
if (navigator.clipboard) {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.hidden = false;
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
      button.textContent = "Copied";
    });
  }
}

// What is wrong is where the reader is, unless something is to be typed first.
if (!document.querySelector("[autofocus]")) document.getElementById("problem")?.focus();
