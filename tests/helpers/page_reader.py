"""Reads pages for the tests."""

import html.parser


class Reader(html.parser.HTMLParser):
    """Checks that elements are closed in order, and takes down what a test looks at."""

    def __init__(self, text):
        super().__init__()
        self.open, self.headings, self.tables, self.addresses, self.tags = [], [], [], [], []
        self.texts, self.ids = [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.ids += [value for name, value in attributes if name == "id"]
        self.addresses += [v for name, v in attributes if name.endswith(("href", "src"))]
        if tag == "tr":
            self.tables.append([])
        if tag not in {"meta", "link", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in {"meta", "link", "br"}:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)
        if self.open and self.open[-1] in ("h1", "h2"):
            self.headings.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.tables[-1].append(data)
