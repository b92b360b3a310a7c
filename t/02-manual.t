#!/usr/bin/perl
# The manual pages say what the program does, and formatters find nothing wrong with them.
use strict;
use warnings;
use lib ($ENV{srcdir} // '.') . '/t/lib';
use LogEvents;
use Test::More;
use TestUtil;

my $postern = $ENV{POSTERN} // builddir() . '/postern';
my %page = map { $_ => read_file(srcdir() . "/man/$_") } qw(postern.8 postern.conf.5 postern-filters.7);

# ---- options ---------------------------------------------------------------------------------

# The rows of a topic; the page holds them as the program knows them.
sub rows_of
{
	my ($topic, $page) = @_;
	my ($chapter) = $page{$page} =~ /^\.\\" options: begin.*\n((?s:.*?))^\.\\" options: end/m;
	my $printed = `'$postern' -T $topic`;

	is($chapter, $printed, "$page holds the options as the program knows them (else: make manual)");
	unlike($printed, qr/^[^.].{79}/m, "$topic: no line of text is longer than 79 octets");
	return $printed;
}

my $filters = rows_of('filters', 'postern-filters.7');
my $printed = rows_of('manual', 'postern.conf.5') . $filters;
my @rows = $printed =~ /^\.It Ic (\S+)/mg;

cmp_ok(scalar @rows, '>', 50, 'postern -T manual has an item for each option');

# Each item: a sentence, that begins with a capital and ends with a full stop.
for my $item (split /^\.It Ic /m, $printed =~ s/^\.(?:Ss|Bl|El).*\n//mgr) {
	my ($name) = $item =~ /^(\w+) (?:Ar|Cm) / or next;
	like($item, qr/\A.*\n(?:\\&)?[A-Z][^\n]*(?:\n[^\n]+)*\.\n/, "$name has a sentence");
}

my $example = `'$postern' -T default`;
my @missing = grep { $example !~ /^#*\s*\Q$_\E\s/m } @rows;
is("@missing", '', 'the example file has the same options');

# ---- kinds of filters ------------------------------------------------------------------------

for my $chapter (split /^\.Ss Block /m, $filters =~ s/\A.*?(?=^\.Ss Block )//msr) {
	my ($kind) = $chapter =~ /^(\w+) NAME/ or next;
	my ($example) = $chapter =~ /^Example:\n\.Bd .*\n((?s:.*?))^\.Ed$/m;

	ok(defined $example, "$kind has an example") or next;
	my $dir = temp_dir();
	my @names = $example =~ /^$kind (\w+) /mg;
	# A file that it names holds what its comment shows.
	write_file("$dir/$1", $example =~ /^# {5}(.*\n)/m) if $example =~ s!/etc/mail/(\w+) \}!$dir/$1 }!;
	# One for the gate alone cannot stand in a chain.
	my $gate = $kind eq 'rate' ? "; gate @names" : '';
	write_file("$dir/conf", "listener front { listen 127.0.0.1:0; backend inner$gate }\nbackend inner { hosts 127.0.0.1:9 }\n"
		. ($example =~ s/\\e/\\/gr) . ($example =~ /^(?:default_chain|gate) /m || $gate ne '' ? '' : "default_chain @names\n"));
	my $said = `'$postern' -T -c '$dir/conf' 2>&1`;
	is($?, 0, "$kind: its example is a configuration") or diag($said);
}

# ---- postern(8) against the program ----------------------------------------------------------

my $usage = `'$postern' -h`;
for my $flag ($usage =~ /(?<=[ \[])-([a-zA-Z])\b/g) {
	like($page{'postern.8'}, qr/^\.It Fl $flag\b/m, "postern(8) explains -$flag");
}
for my $flag ($page{'postern.8'} =~ /^\.It Fl (\w)/mg) {
	like($usage, qr/[ \[]-$flag\b/, "postern -h knows -$flag");
}

# Events and keys have a page of their own (t/02-log-lines.t).
my ($log) = $page{'postern.8'} =~ /^\.Sh LOG\n(.*?)^\.Sh /ms;
for my $topic ($usage =~ /-T ([a-z-]+)/g) {
	like($page{'postern.8'}, qr/^\.It Fl T Cm \Q$topic\E$/m, "postern(8) explains -T $topic");
}
my $events = LogEvents::table;
for my $key (grep { !/\A(?:No|msg|and|others)\z/ } map { split } $log =~ /^\.Cm ([a-z_ ]+?)(?: [,.])?$/mg) {
	next if $key =~ /\A(?:format|json|to|journal|time|level|who|session|txn|event|error|warn|info|debug|log-lines)\z/;
	ok($events->{msg}{keys}{$key} || $key eq 'repeated', "the key $key in postern(8) is one of the summary's");
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
