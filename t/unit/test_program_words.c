/* t/unit/test_program_words.c - what goes to a program and what comes from it: words, exit codes, reasons, header lines, JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "base/list.h"
#include "base/str.h"
#include "filters/exit_map.h"
#include "filters/program_answer.h"
#include "filters/template.h"

#define WORDS_MAX 8

/* From "a|b c|/d": a pattern is written so, too. */
static struct config_words
words(const char *text, struct config_word *list, char *copy)
{
	struct config_words w = {list, 0};

	strcpy(copy, text);
	for (char *p = strtok(copy, "|"); p != NULL; p = strtok(NULL, "|"))
		list[w.count++] = (struct config_word){p[0] == '~' ? p + 1 : p,
			p[0] == '~' ? CONFIG_WORD_PATTERN : CONFIG_WORD_PLAIN, {NULL, 0, 0}};
	return w;
}

/* ---- words -------------------------------------------------------------------------------- */

static const char *const rcpts[] = {"r1@example.org", "-r2@example.org"};

static const struct {
	const char *words, *sender, *want; /* want: NULL: more than five */
} templates[] = {
	{"/bin/a", "s", "/bin/a"},
	{"a|%f|b", "s", "a|FILE|b"},
	{"%f%f-%%-%%f", "s", "FILEFILE-%-%f"},
	{"%n|%h|%t|%a|%e|%l|%i", "s", NULL},
	{"%n|%h|%t|%a", "s", "NEW|HEADER|FOLDER|192.0.2.1"},
	{"%e|%l|%i", "s", "helo|front|7f3a01-1"},
	{"%s|-f%s|--from=%s", "ann@example.org", "ann@example.org|-fann@example.org|--from=ann@example.org"},
	{"%s|-f%s", "", "<>|-f<>"},
	{"%s|-f%s|%s%s", "-x@a", "<-x@a>|-f-x@a|<-x@a>-x@a"},
	{"%%%s", "-x@a", "%-x@a"},
	{"%s", "a b'\"$(id)`x`\\@a", "a b'\"$(id)`x`\\@a"},
	{"%s", "%f%s@a", "%f%s@a"},
	{"%r", "s", "r1@example.org"},
	{"x|%R|y", "s", "x|r1@example.org|<-r2@example.org>|y"},
	{"x|%R|%R|y", "s", NULL},
	{"~usr|~a/b", "s", "/usr/|/a/b/"},
	{"~%s", "s", "/s/"},
};

static void
words_are_filled(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(templates); i++) {
		struct template_facts facts = {.file = "FILE", .body = "NEW", .header = "HEADER", .folder = "FOLDER",
			.sender = templates[i].sender, .rcpt = rcpts[0], .rcpts = rcpts, .rcpt_count = 2,
			.client = "192.0.2.1", .helo = "helo", .listener = "front", .id = "7f3a01-1"};
		struct arena *arena = arena_new();
		struct config_word list[WORDS_MAX];
		char copy[200];
		struct config_words w = words(templates[i].words, list, copy);
		const char **argv = template_expand(&w, &facts, 5, arena);
		struct str got = STR_INIT;

		for (size_t k = 0; argv != NULL && argv[k] != NULL; k++)
			str_printf(&got, "%s%s", k > 0 ? "|" : "", argv[k]);
		if (templates[i].want == NULL)
			assert_null(argv);
		else
			assert_string_equal(str_text(&got), templates[i].want);
		str_deinit(&got);
		arena_free(&arena);
	}
}

static const struct {
	const char *words, *want;
} checks[] = {
	{"/bin/a|%f|x%%%s|%R", NULL},
	{"%x", "\"%x\": there is no %x (there are: f s R; %% is a percent sign)"},
	{"a|50%", "\"50%\": a single % stands at its end (%% is a percent sign)"},
	{"50%%%", "\"50%%%\": a single % stands at its end (%% is a percent sign)"},
	{"x%R", "\"x%R\": %R must be a word of its own"},
	{"~%R", "\"%R\": %R must be a word of its own"},
	{"%\x01", "\"% \": there is no %? (there are: f s R; %% is a percent sign)"},
};

static void
letters_are_checked(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(checks); i++) {
		struct config_word list[WORDS_MAX];
		char copy[200];
		struct config_words w = words(checks[i].words, list, copy);
		struct err err;
		int rc = template_check(&w, "fsR", &err);

		assert_int_equal(rc, checks[i].want == NULL ? 0 : -1);
		if (rc < 0)
			assert_string_equal(err.text, checks[i].want);
	}
}

static void
a_doubled_sign_is_no_use(void **state)
{
	struct config_word list[WORDS_MAX];
	char copy[200];
	struct config_words w = words("/bin/a|%%f|%%%s", list, copy);

	(void)state;
	assert_false(template_uses(&w, 'f'));
	assert_true(template_uses(&w, 's'));
}

/* ---- exit codes --------------------------------------------------------------------------- */

static const char *const names[] = {[1] = "pass_codes", [2] = "reject_codes"};

static const struct {
	const char *pass, *reject, *want; /* "." unlisted, P, R for 0 to 9, and 255; or the error */
} maps[] = {
	{"0", "1", "PR.........", },
	{"0|2", "1|3-5|255", "PRPRRR....R"},
	{"0-9", "", "PPPPPPPPPP."},
	{"0-255", "", "PPPPPPPPPPP"},
	{"007", "", ".......P..."},
	{"0", "0", "reject_codes: 0 stands in pass_codes already"},
	{"1|1", "", "pass_codes: 1 stands in pass_codes already"},
	{"", "256", "reject_codes: \"256\" is no exit code (try 1, or 1-99; the highest is 255)"},
	{"", "1-256", "reject_codes: \"1-256\" is no exit code (try 1, or 1-99; the highest is 255)"},
	{"", "5-4", "reject_codes: \"5-4\" is no exit code (try 1, or 1-99; the highest is 255)"},
	{"", "-1", "reject_codes: \"-1\" is no exit code (try 1, or 1-99; the highest is 255)"},
	{"", "1-", "reject_codes: \"1-\" is no exit code (try 1, or 1-99; the highest is 255)"},
	{"", "1x", "reject_codes: \"1x\" is no exit code (try 1, or 1-99; the highest is 255)"},
	{"", "0000", "reject_codes: \"0000\" is no exit code (try 1, or 1-99; the highest is 255)"},
	{"", "~1", "reject_codes: \"1\" is no exit code (try 1, or 1-99; the highest is 255)"},
};

static void
codes_have_meanings(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(maps); i++) {
		struct config_word pass[WORDS_MAX], reject[WORDS_MAX];
		char copy[100], copy2[100], got[12] = "";
		struct config_words p = words(maps[i].pass, pass, copy), r = words(maps[i].reject, reject, copy2);
		struct exit_map map = {.meaning = {0}};
		struct err err = {.text = ""};

		if (exit_map_add(&map, &p, 1, names, &err) < 0 || exit_map_add(&map, &r, 2, names, &err) < 0) {
			assert_string_equal(err.text, maps[i].want);
			continue;
		}
		for (int k = 0; k < 11; k++)
			got[k] = ".PR"[map.meaning[k < 10 ? k : 255]];
		assert_string_equal(got, maps[i].want);
	}
}

/* ---- reasons ------------------------------------------------------------------------------ */

static const struct {
	const char *output, *first, *last; /* "code status text" */
} reasons[] = {
	{"", NULL, NULL},
	{" \n\r\n\t\n", NULL, NULL},
	{"words", "0  words", "0  words"},
	{"\n  one \r\ntwo\n\n", "0  one", "0  two"},
	{"550 no", "550  no", "550  no"},
	{"550 5.7.1 no\n451 4.2.0 later", "550 5.7.1 no", "451 4.2.0 later"},
	{"550-5.7.1 no", "550 5.7.1 no", "550 5.7.1 no"},
	{"550", "550  ", "550  "},
	{"550 4.7.1 no", "550  4.7.1 no", "550  4.7.1 no"},
	{"250 2.0.0 fine", "250 2.0.0 fine", "250 2.0.0 fine"},
	{"354 go ahead", "0  354 go ahead", "0  354 go ahead"},
	{"999 x", "0  999 x", "0  999 x"},
	{"570 x", "570  x", "570  x"},
	{"270 x", "0  270 x", "0  270 x"},
	{"55 x", "0  55 x", "0  55 x"},
	{"5500 x", "0  5500 x", "0  5500 x"},
	{"a\001b\tc\177d\xe4", "0  a b c?d?", "0  a b c?d?"},
	{"hello\n<<550 5.1.1 no>>\nbye", "550 5.1.1 no", "550 5.1.1 no"},
	{"<< a\r\nb >>", "0  a  b", "0  a  b"},
	{"<<>>\nx", "0  <<>>", "0  x"},
	{"<<x", "0  <<x", "0  <<x"},
};

static void
check_reason(bool is_there, const struct reason *r, const char *want)
{
	char got[sizeof(r->text) + 30];

	assert_int_equal(is_there, want != NULL);
	if (want == NULL)
		return;
	snprintf(got, sizeof(got), "%d %s %s", r->code, r->status, r->text);
	assert_string_equal(got, want);
}

static void
reasons_are_found(void **state)
{
	struct reason r;

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(reasons); i++) {
		size_t len = strlen(reasons[i].output);
		bool is_there = reason_first(reasons[i].output, len, &r);

		check_reason(is_there, &r, reasons[i].first);
		is_there = reason_last(reasons[i].output, len, &r);
		check_reason(is_there, &r, reasons[i].last);
	}
}

static void
a_reason_has_an_end(void **state)
{
	struct reason r;
	char text[5000];

	(void)state;
	memset(text, 'x', sizeof(text));
	assert_true(reason_first(text, sizeof(text), &r));
	assert_int_equal(strlen(r.text), REASON_MAX);
	memcpy(text, "a\0b", 3);
	assert_true(reason_first(text, 3, &r));
	assert_string_equal(r.text, "a b");
}

/* ---- header lines and JSON ---------------------------------------------------------------- */

static const char *const edit_letters = "PAICDSBRNM"; /* by enum mail_edit_kind */

/* "A0 Name: value|" per edit; of the envelope the address. */
static const char *
describe(const struct mail_edits *edits, struct str *out)
{
	const struct mail_edit *edit;

	STAILQ_FOREACH(edit, &edits->list, next)
	{
		char letter = edit_letters[edit->kind];

		if (edit->kind == MAIL_EDIT_SENDER)
			str_printf(out, "S %s|", edit->sender->addr);
		else if (edit->kind == MAIL_EDIT_ADD_RCPT || edit->kind == MAIL_EDIT_REMOVE_RCPT)
			str_printf(out, "%c %s|", letter, edit->rcpt->addr);
		else if (edit->index == MAIL_EDIT_ALL)
			str_printf(out, "%c* %s|", letter, edit->name);
		else
			str_printf(out, "%c%zu %s: %s|", letter, edit->index, edit->name, edit->text);
	}
	return str_text(out);
}

static const struct {
	const char *text, *want, *err;
} lines[] = {
	{"", "", NULL},
	{"A: b", "A0 A: b|", NULL},
	{"A:b\nC:\td\r\n", "A0 A: b|A0 C: d|", NULL},
	{"A: b\n c\r\n\td\nE: f\n", "A0 A: b\r\n c\r\n\td|A0 E: f|", NULL},
	{"A:\n", "A0 A: |", NULL},
	{"A: \xc3\xa4\n", "A0 A: \xc3\xa4|", NULL},
	{"A: b:c\n", "A0 A: b:c|", NULL},
	/* a block with its end */
	{"A: b\n\n", "A0 A: b|", NULL},
	{"A: b\r\nC: d\r\n\r\n", "A0 A: b|A0 C: d|", NULL},
	{"A: b\n\n\r\n\n", "A0 A: b|", NULL},
	{"\n", "", NULL},
	{"A: b\n\nC: d\n", NULL, "its header lines: a line without a name and a colon"},
	{"A: b\n\ntext\n", NULL, "its header lines: a line without a name and a colon"},
	{"A: b\n\n \n", NULL, "its header lines: a line without a name and a colon"},
	{"A: b\n\r", NULL, "its header lines: a line without a name and a colon"},
	{"no field\n", NULL, "its header lines: a line without a name and a colon"},
	{" A: b\n", NULL, "its header lines: \" A\" is no name of a header field"},
	{": b\n", NULL, "its header lines: \"\" is no name of a header field"},
	{"A b: c\n", NULL, "its header lines: \"A b\" is no name of a header field"},
	{"A\nB: c\n", NULL, "its header lines: a line without a name and a colon"},
	{"received: x\n", NULL, "its header lines: it may not touch Received lines"},
	{"A: b\001\n", NULL, "its header lines: the value of A has control characters"},
	{"A: b\rc\n", NULL, "its header lines: the value of A has control characters"},
	{"A: b\n \nC: d\n", NULL, "its header lines: the value of A has control characters"},
};

static void
header_lines_are_added(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(lines); i++) {
		struct arena *arena = arena_new();
		struct mail_edits edits;
		struct str got = STR_INIT;
		struct err err = {.text = ""};
		int rc;

		mail_edits_init(&edits, arena);
		rc = program_header(lines[i].text, strlen(lines[i].text), &edits, &err);
		assert_int_equal(rc, lines[i].err == NULL ? 0 : -1);
		if (rc == 0)
			assert_string_equal(describe(&edits, &got), lines[i].want);
		else
			assert_int_equal(strncmp(err.text, lines[i].err, strlen(lines[i].err)), 0);
		str_deinit(&got);
		arena_free(&arena);
	}
}

#define PASS "{\"verdict\":\"pass\","

static const struct {
	const char *text, *want, *err; /* want: "verdict code status text|edits" */
} jsons[] = {
	{"{\"verdict\":\"pass\"}", "pass 0  |", NULL},
	{" { \"verdict\" : \"accept\" } \n", "accept 0  |", NULL},
	{"{\"text\":\"a\\nb\\u0001\xc3\xa4\",\"verdict\":\"reject\"}", "reject 0  a\nb ??|", NULL},
	{"{\"verdict\":\"reject\",\"code\":554,\"status\":\"5.6.0\",\"text\":\"no\"}", "reject 554 5.6.0 no|", NULL},
	{"{\"verdict\":\"reject\",\"code\":554}", "reject 554  |", NULL},
	{"{\"verdict\":\"disconnect\",\"code\":421}", "disconnect 421  |", NULL},
	{PASS "\"code\":250}", "pass 250  |", NULL},
	{PASS "\"headers\":[]}", "pass 0  |", NULL},
	{PASS "\"headers\":[{\"add\":\"A\",\"value\":\"\"}]}", "pass 0  |A0 A: |", NULL},
	{PASS "\"headers\":[{\"add\":\"A\",\"value\":\"b\\n c\"},{\"insert\":\"B\",\"value\":\"c\"},{\"insert\":\"B\",\"value\":\"c\",\"index\":2}]}",
		"pass 0  |A0 A: b\r\n c|I0 B: c|I2 B: c|", NULL},
	{PASS "\"headers\":[{\"change\":\"A\",\"value\":\"b\"},{\"change\":\"A\",\"value\":\"b\",\"index\":3}]}", "pass 0  |C1 A: b|C3 A: b|", NULL},
	{PASS "\"headers\":[{\"delete\":\"A\"},{\"delete\":\"A\",\"index\":2},{\"delete\":\"A\",\"index\":\"all\"}]}", "pass 0  |D1 A: |D2 A: |D* A|", NULL},
	{PASS "\"sender\":\"x@y.example\"}", "pass 0  |S x@y.example|", NULL},
	{PASS "\"sender\":\"\"}", "pass 0  |S |", NULL},
	{PASS "\"add_recipients\":[\"a@b\",\"\\\"c d\\\"@b\"],\"remove_recipients\":[\"e\"]}", "pass 0  |B a@b|B \"c d\"@b|R e|", NULL},

	{"", NULL, "its JSON: line 1, column 0: "},
	{"pass", NULL, "its JSON: line 1, column 4: "},
	{"[]", NULL, "its JSON: no object"},
	{"{}", NULL, "its JSON: there is no verdict in it"},
	{"{\"verdict\":\"pass\"}{", NULL, "its JSON: line 1, column 19: end of file expected"},
	{"{\"verdict\":\"pass\",\"verdict\":\"pass\"}", NULL, "its JSON: line 1, column 27: duplicate object key"},
	{"{\"verdict\":\"ok\"}", NULL, "its JSON: verdict: no such verdict"},
	{"{\"verdict\":1}", NULL, "its JSON: verdict: no such verdict"},
	{PASS "\"cod\":250}", NULL, "its JSON: \"cod\" is unknown"},
	{PASS "\"text\":1}", NULL, "its JSON: text: no text"},
	{PASS "\"code\":\"250\"}", NULL, "its JSON: code: no reply code"},
	{PASS "\"code\":199}", NULL, "its JSON: code: no reply code"},
	{PASS "\"code\":550}", NULL, "its JSON: code 550 and status \"\" do not fit verdict pass"},
	{"{\"verdict\":\"reject\",\"code\":450}", NULL, "its JSON: code 450 and status \"\" do not fit verdict reject"},
	{"{\"verdict\":\"tempfail\",\"code\":421}", NULL, "its JSON: code 421 and status \"\" do not fit verdict tempfail"},
	{PASS "\"code\":270}", NULL, "its JSON: code 270 and status \"\" do not fit verdict pass"},
	{"{\"verdict\":\"reject\",\"code\":550,\"status\":\"4.1.1\"}", NULL, "its JSON: code 550 and status \"4.1.1\" do not fit"},
	{"{\"verdict\":\"reject\",\"code\":550,\"status\":\"5.1.1 x\"}", NULL, "its JSON: code 550 and status \"5.1.1 x\" do not fit"},
	{"{\"verdict\":\"reject\",\"status\":\"5.1.1\"}", NULL, "its JSON: a status without a code"},
	{"{\"verdict\":\"reject\",\"code\":550,\"status\":\"5.1.1111111111111\"}", NULL, "its JSON: status: no enhanced status code"},
	{PASS "\"headers\":{}}", NULL, "its JSON: headers: no list of at most 1000"},
	{PASS "\"headers\":[1]}", NULL, "its JSON: headers: an edit has one of"},
	{PASS "\"headers\":[{\"add\":\"A\"}]}", NULL, "its JSON: headers: an edit has one of"},
	{PASS "\"headers\":[{\"add\":\"A\",\"value\":1}]}", NULL, "its JSON: headers: the value of A cannot"},
	{PASS "\"headers\":[{\"delete\":\"A\",\"value\":\"b\"}]}", NULL, "its JSON: headers: an edit has one of"},
	{PASS "\"headers\":[{\"add\":\"A\",\"value\":\"b\",\"change\":\"A\"}]}", NULL, "its JSON: headers: an edit has one of"},
	{PASS "\"headers\":[{\"add\":\"A\",\"value\":\"b\",\"idx\":1}]}", NULL, "its JSON: headers: an edit has one of"},
	{PASS "\"headers\":[{\"add\":\"A\",\"value\":\"b\",\"index\":1}]}", NULL, "its JSON: headers: no index of a field"},
	{PASS "\"headers\":[{\"insert\":\"A\",\"value\":\"b\",\"index\":-1}]}", NULL, "its JSON: headers: no index of a field"},
	{PASS "\"headers\":[{\"change\":\"A\",\"value\":\"b\",\"index\":\"all\"}]}", NULL, "its JSON: headers: no index of a field"},
	{PASS "\"headers\":[{\"add\":\"A\",\"value\":\"b\\nC: d\"}]}", NULL, "its JSON: headers: the value of A cannot"},
	{PASS "\"headers\":[{\"add\":\"A\",\"value\":\"b\\u0001\"}]}", NULL, "its JSON: headers: the value of A cannot"},
	{PASS "\"headers\":[{\"add\":\"A: b\\r\\nC\",\"value\":\"d\"}]}", NULL, "its JSON: \"A: b  C\" is no name of a header field"},
	{PASS "\"headers\":[{\"delete\":\"RECEIVED\"}]}", NULL, "its JSON: it may not touch Received lines"},
	{PASS "\"sender\":\"a@b> SIZE=1\"}", NULL, "its JSON: sender: no address"},
	{PASS "\"sender\":\"a b@c\"}", NULL, "its JSON: sender: no address"},
	{PASS "\"sender\":\"@x:a@c\"}", NULL, "its JSON: sender: no address"},
	{PASS "\"sender\":null}", NULL, "its JSON: sender: no address"},
	{PASS "\"add_recipients\":[\"\"]}", NULL, "its JSON: add_recipients: no address"},
	{PASS "\"add_recipients\":[\"\xc3\xa4@b\"]}", NULL, "its JSON: add_recipients: no address"},
	{PASS "\"add_recipients\":\"a@b\"}", NULL, "its JSON: add_recipients: no list"},
	{PASS "\"remove_recipients\":[1]}", NULL, "its JSON: remove_recipients: no address"},
};

static void
json_is_a_verdict(void **state)
{
	static const struct mail_sender sender = {.addr = "s@t.example", .domain = "t.example", .size = -1};

	(void)state;
	for (size_t i = 0; i < ARRAY_COUNT(jsons); i++) {
		struct arena *arena = arena_new();
		struct str got = STR_INIT;
		struct mail_edits edits;
		enum verdict_kind kind;
		struct reason r;
		struct err err = {.text = ""};
		int rc;

		mail_edits_init(&edits, arena);
		rc = program_json(jsons[i].text, strlen(jsons[i].text), &edits, &sender, &kind, &r, &err);
		if (jsons[i].err != NULL && strncmp(err.text, jsons[i].err, strlen(jsons[i].err)) != 0)
			fail_msg("%s: %s", jsons[i].text, err.text);
		assert_int_equal(rc, jsons[i].err == NULL ? 0 : -1);
		if (rc == 0) {
			str_printf(&got, "%s %d %s %s|", verdict_names[kind], r.code, r.status, r.text);
			assert_string_equal(describe(&edits, &got), jsons[i].want);
		}
		str_deinit(&got);
		arena_free(&arena);
	}
}

static void
json_has_bounds(void **state)
{
	static const struct mail_sender sender = {.addr = "", .domain = "", .size = -1};
	struct arena *arena = arena_new();
	struct str text = STR_INIT;
	struct mail_edits edits;
	enum verdict_kind kind;
	struct reason r;
	struct err err;

	(void)state;
	mail_edits_init(&edits, arena);
	for (int i = 0; i < 60000; i++)
		str_addc(&text, '[');
	assert_int_equal(program_json(text.data, text.len, &edits, &sender, &kind, &r, &err), -1);
	str_clear(&text);
	str_add(&text, "{\"verdict\":\"pass\",\"headers\":[{\"delete\":\"A\"}");
	for (int i = 0; i < 1000; i++)
		str_add(&text, ",{\"delete\":\"A\"}");
	str_add(&text, "]}");
	assert_int_equal(program_json(text.data, text.len, &edits, &sender, &kind, &r, &err), -1);
	assert_string_equal(err.text, "its JSON: headers: no list of at most 1000");
	str_deinit(&text);
	arena_free(&arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(words_are_filled),
		cmocka_unit_test(letters_are_checked),
		cmocka_unit_test(a_doubled_sign_is_no_use),
		cmocka_unit_test(codes_have_meanings),
		cmocka_unit_test(reasons_are_found),
		cmocka_unit_test(a_reason_has_an_end),
		cmocka_unit_test(header_lines_are_added),
		cmocka_unit_test(json_is_a_verdict),
		cmocka_unit_test(json_has_bounds),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
