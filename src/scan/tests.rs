use super::*;

fn lines(contents: &Contents) -> Vec<usize> {
    contents.documents.iter().map(|document| document.lines.line).collect()
}

#[test]
fn what_breaks_one_document_does_not_break_the_next() {
    let contents = read(b"a: 1\n---\nb: [\n---\nc: 3\n--- # with a word\nd: 4\n", false);
    assert_eq!(lines(&contents), [1, 5, 7]);
    assert_eq!(contents.unread.len(), 1);
    assert!(matches!(contents.unread[0].line, Some(3 | 4)), "{:?}", contents.unread);
}

#[test]
fn separators_are_told_from_what_looks_like_one() {
    let text =
        "%YAML 1.2\n# words\n---\na: |\n  ---\n  x\n----: 1\n---x: 2\n---\r\nb: 1\r\n---\t{c: 1}\n---\n---\n";
    let contents = read(text.as_bytes(), false);
    assert_eq!(contents.unread, []);
    assert_eq!(lines(&contents), [4, 10, 11]);
    assert_eq!(contents.documents[0].value["a"], "---\nx\n");
}

#[test]
fn a_charts_source_is_to_be_rendered_first() {
    let source =
        b"kind: Pod\nmetadata:\n  name: {{ .Values.name }}\n---\n{{- if .Values.x }}\na: 1\n{{- end }}\n";
    for of_chart in [false, true] {
        let contents = read(source, of_chart);
        assert_eq!(contents.unread, [Unread::at(3, RENDER)], "{of_chart}");
    }
    // Others have templates within their words: alerts, workflows.
    let quoted = b"message: 'pod {{ $labels.pod }} is down'\n";
    assert_eq!(read(quoted, false).documents.len(), 1);
    assert_eq!(read(quoted, true).unread, [Unread::at(1, RENDER)]);
}

#[test]
fn what_is_no_text_is_told() {
    assert_eq!(read(b"a: 1\n\0", false).unread[0].line, Some(2));
    assert_eq!(lines(&read(b"\xef\xbb\xbfa: 1\n", false)), [1]);
}
