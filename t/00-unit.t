#!/usr/bin/perl
# Runs every program of t/unit and passes its TAP on as one stream.
use strict;
use warnings;

my @programs = grep { m{t/unit/} } split ' ', $ENV{UNIT_TESTS} // '';
my $builddir = $ENV{builddir} // '.';
@programs = map { s{^\Q$builddir/}{}r } glob("$builddir/t/unit/test_*[!.][!o]") unless @programs;
my $n = 0;

sub report
{
	my ($ok, $name) = @_;

	$n++;
	print $ok ? '' : 'not ', "ok $n - $name\n";
}

sub how_it_ended
{
	my ($status) = @_;

	return $status & 127 ? 'signal ' . ($status & 127) : 'status ' . ($status >> 8);
}

for my $program (@programs) {
	my ($name) = $program =~ m{test_([^/]+)$};
	my ($planned, $seen, $failed) = (0, 0, 0);

	open my $out, '-|', "'$builddir/$program' 2>&1" or die "$program: $!\n";
	while (<$out>) {
		if (/^1\.\.(\d+)/) {
			$planned += $1;
		} elsif (/^(not )?ok \d+(?: - (.*))?/) {
			report(!$1, "$name: " . ($2 // ''));
			$seen++;
			$failed++ if $1;
		} else {
			print /^#/ ? '' : '# ', $_;
		}
	}
	close $out;
	my $status = $?;
	if ($planned != $seen || $planned == 0) {
		report(0, "$name: ran $seen of $planned tests, " . how_it_ended($status));
	} elsif ($status != 0 && !$failed) {
		report(0, "$name: all tests passed, but it ended with " . how_it_ended($status));
	}
}
print "1..$n\n" if $n > 0;
print "1..0 # SKIP built without unit tests\n" if $n == 0;
