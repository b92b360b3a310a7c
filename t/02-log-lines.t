#!/usr/bin/perl
# doc/log-lines.md explains every line that the program can write: no event, level or key is missing
# there, and none is there that the sources do not have.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use LogEvents;
use Test::More;
use TestUtil;

my $postern = $ENV{POSTERN} // builddir() . '/postern';
my $page = read_file(srcdir() . '/doc/log-lines.md');

is($page, scalar `'$postern' -T log-lines`, 'doc/log-lines.md is what the program prints (else: make manual)');

# ---- the calls in the sources ----------------------------------------------------------------

my %call;	# event => { levels, keys, repeats }
my $calls = 0;	# as understood
my $format = qr/((?:"[^"]*"\s*|PRI\w+\s*)+)/;

sub note_call
{
	my ($event, $level, $repeats, @keys) = @_;

	$calls++;
	$call{$event}{levels}{lc $level} = 1;
	$call{$event}{keys}{$_} = 1 for @keys;
	$call{$event}{keys}{repeated} = 1 if $repeats;
	return;
}

sub keys_of { my ($text) = @_; $text =~ s/"\s*"//g; return $text =~ /(?:\A"|\s)([a-z_0-9]+)=/g }

my $written = 0;	# as a plain search finds them
for my $file (grep { !m{/(?:t|bench)/[^/]*\z} } glob srcdir() . '/*/*.c') {
	my $text = read_file($file) =~ s{/\*.*?\*/}{}gsr;

	unless ($file =~ m{/base/log\.c\z}) {
		$written += () = $text =~ /\blog_(?:error|warn|info|debug|repeat|begin)\(/g;
		note_call($2, $1, 0, keys_of($3)) while $text =~ /\blog_(error|warn|info|debug)\(\s*[^;"]*?,\s*"(\w+)",\s*$format/g;
		note_call($2, $1, 1, keys_of($3)) while $text =~ /\blog_repeat\(\s*LOG_LEVEL_(\w+),\s*[^;"]*?,\s*"(\w+)",\s*$format/g;
	}
	# Key by key: one such line in a file, and its keys are those of the file.
	my @begun = $text =~ /\b(?:log_begin|begin_line)\(\s*LOG_LEVEL_(\w+),\s*[^;"]*?,\s*"(\w+)"\)/g or next;
	is(scalar @begun, 2, "$file begins one line key by key");
	note_call($begun[1], $begun[0], 0, $text =~ /\blog_(?:key\w*\(|pairs_int\(&self\.pairs, )"(\w+)"/g);
}

cmp_ok($written, '>', 50, 'the sources have log calls');
is($calls, $written + 1, 'all of them are understood: event and keys are literals (and one is in base/log.c)');

# ---- both ways -------------------------------------------------------------------------------

my $table = LogEvents::table;
is(join(' ', sort keys %$table), join(' ', sort keys %call), 'the table has the events of the sources');
for my $event (sort grep { $table->{$_} } keys %call) {
	for my $what (qw(levels keys)) {
		is(join(' ', sort keys %{ $table->{$event}{$what} }), join(' ', sort keys %{ $call{$event}{$what} }), "$event: $what");
	}
}

my %head = map { $_ => 1 } qw(time level who session txn event);
is(join(' ', grep { $head{$_} || !/\A[a-z][a-z0-9_]{0,40}\z/ } map { keys %{ $_->{keys} } } values %$table), '',
	'no key has the name of what stands in front, in JSON and in the journal');

# ---- the page --------------------------------------------------------------------------------

for my $part (split /^(?=### )/m, $page) {
	my ($name) = $part =~ /\A### (\w+)$/m or next;

	like($part, qr/\A### \w+\n\n[A-Z][^\n]*\.\)\n/, "$name: sentences that end");
	like($part, qr/^What to do: [A-Z`][^\n]*\.$/m, "$name: it says what to do") if $table->{$name}{levels}{error};
	my @rows = $part =~ /^\| `\w+` \|.*$/mg;
	is(scalar(grep { !/^\| `\w+` \| [\w-]*(?:address)?(?::port)? \| \S.* \|$/ } @rows), 0, "$name: each key has its words");
	is(scalar(grep { /^\| `\w+_ms` / && !/ \| ms \| / } @rows), 0, "$name: times have a unit");
}
cmp_ok(scalar(grep { !/^[|<]/ && length > 300 } split /\n/, $page), '<', 5, 'lines can be read');

# ---- the reader of lines that all tests use --------------------------------------------------

for my $case (
	[ 'info w0 s=7f3a01 t=1 rcpt to=<a@b> code=550 text="no \"x\" \\\\ here"', undef ],
	[ '2026-11-24T12:00:00.123+01:00 warn a log_lost lines=7', undef ],
	[ 'info w0 s=7f3a01 rcpt to=<a@b> code=550 text=x\x0d\x0ay', undef ],
	[ 'info w0 s=7f3a01 rcpt to=<a@b> code=550 text=a b', 'no line' ],
	[ 'info w0 s=7f3a01 rcpt to=<a@b> text="a', 'no line' ],
	[ "info w0 s=7f3a01 rcpt to=a\tb", 'no line' ],
	[ 'info rcpt to=<a@b>', 'no line' ],
	[ 'warn w0 rcpt to=<a@b>', 'level' ],
	[ 'info w0 nonsense to=<a@b>', 'event' ],
	[ 'info w0 rcpt from=<a@b>', 'key' ],
	[ 'info w0 rcpt to=<a@b> to=<c@d>', 'twice' ],
	[ '{"time":"2026-11-24T12:00:00.123+01:00","level":"info","who":"w0","session":"7f3a01","txn":1,"event":"rcpt","to":"<a@b>"}', undef ],
	[ '{"time":"2026-11-24T12:00:00.123+01:00","level":"info","who":"w0","event":"rcpt","from":"<a@b>"}', 'key' ],
	[ '{"time":"2026-11-24T12:00:00.123+01:00","level":"info","who":"w0","event":"rcpt","to":"a', 'no line' ],
) {
	my ($line, $want) = @$case;
	my $got = LogEvents::fault($line);

	defined $want ? like($got, qr/$want/, "a fault is seen: $want") : is($got, undef, 'a good line is good');
}

done_testing;
