#!/usr/bin/perl
# The manual pages say what the program does, and formatters find nothing wrong with them.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use Test::More;
use TestUtil;

my $postern = $ENV{POSTERN} // builddir() . '/postern';
my %page = map { $_ => read_file(srcdir() . "/man/$_") } qw(postern.8 postern.conf.5);

# ---- options ---------------------------------------------------------------------------------

my ($chapter) = $page{'postern.conf.5'} =~ /^\.\\" options: begin.*\n((?s:.*?))^\.\\" options: end/m;
my $printed = `'$postern' -T manual`;
my @rows = $printed =~ /^\.It Ic (\S+)/mg;

cmp_ok(scalar @rows, '>', 50, 'postern -T manual has an item for each option');
is($chapter, $printed, 'postern.conf(5) holds the options as the program knows them (else: make manual)');

# Each item: a sentence, that begins with a capital and ends with a full stop.
for my $item (split /^\.It Ic /m, $printed =~ s/^\.(?:Ss|Bl|El).*\n//mgr) {
	my ($name) = $item =~ /^(\w+) (?:Ar|Cm) / or next;
	like($item, qr/\A.*\n(?:\\&)?[A-Z][^\n]*(?:\n[^\n]+)*\.\n/, "$name has a sentence");
}
unlike($printed, qr/^[^.].{79}/m, 'no line of text is longer than 79 octets');

my $example = `'$postern' -T default`;
my @missing = grep { $example !~ /^#*\s*\Q$_\E\s/m } @rows;
is("@missing", '', 'the example file has the same options');

# ---- postern(8) against the program ----------------------------------------------------------

my $usage = `'$postern' -h`;
for my $flag ($usage =~ /(?<=[ \[])-([a-zA-Z])\b/g) {
	like($page{'postern.8'}, qr/^\.It Fl $flag\b/m, "postern(8) explains -$flag");
}
for my $flag ($page{'postern.8'} =~ /^\.It Fl (\w)/mg) {
	like($usage, qr/[ \[]-$flag\b/, "postern -h knows -$flag");
}

# Events that the sources log, but for those of level debug.
my $sources = join '', map { read_file($_) } grep { !m{/t/} } glob srcdir() . '/*/*.c';
my %event = map { $_ => 1 } $sources =~ /\blog_(?:error|warn|info)\(\s*[^;"]*?,\s*"(\w+)"/g;
my ($log) = $page{'postern.8'} =~ /^\.Sh LOG\n(.*?)^\.Sh /ms;
cmp_ok(scalar keys %event, '>', 15, 'the sources log events');
for my $event (sort keys %event) {
	ok(scalar($log =~ /^\.(?:It Cm|Ss)\b.*\b$event\b/m), "postern(8) explains the event $event");
}
my ($summary) = $sources =~ /"msg",\s*((?:"[^"]*"\s*)+)/;
for my $key ($summary =~ /(\w+)=/g) {
	ok(scalar($log =~ /^\.It Cm .*\b$key\b/m), "postern(8) explains the summary's $key");
}

# ---- form ------------------------------------------------------------------------------------

sub formatter_says
{
	my ($command) = @_;

	my ($name) = $command =~ /^(\S+)/;
	return if system("command -v $name >/dev/null 2>&1") != 0;
	return join '', grep { !/referenced manual not found|outdated mandoc\.db/ } `$command 2>&1`;
}

for my $name (sort keys %page) {
	my $path = srcdir() . "/man/$name";

	for my $command ("mandoc -T lint '$path'", "groff -mandoc -ww -z -Tutf8 '$path'") {
	      SKIP: {
			my $said = formatter_says($command) // skip "no formatter: $command", 1;
			is($said, '', "$name: nothing to complain for " . $command =~ s/ .*//r);
		}
	}
}

done_testing;
