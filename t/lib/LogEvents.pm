# LogEvents - the table of log events, and whether a line is one of them.
#
#   my $events = LogEvents::table;          # { msg => { levels => { info => 1 }, keys => { from => 1 } } }
#   my $why = LogEvents::fault($line);      # undef when all is well
#
# The table is read from doc/log-lines.md, which t/02-log-lines.t compares with the program's.
package LogEvents;
use strict;
use warnings;
use JSON::PP ();
use TestUtil;

my $table;
sub table
{
	return $table if $table;
	my $page = read_file(srcdir() . '/doc/log-lines.md') // die 'doc/log-lines.md is missing';

	for my $part (split /^(?=### )/m, $page) {
		my ($name) = $part =~ /\A### (\w+)$/m or next;
		my ($levels) = $part =~ /\(Level: ([a-z ]+)\.\)$/m;
		$table->{$name} = { levels => { map { $_ => 1 } split ' ', $levels // '' },
			keys => { map { $_ => 1 } $part =~ /^\| `(\w+)` \|/mg } };
	}
	return $table;
}

my $value = qr/"(?:[^"\\\x00-\x1f\x7f]|\\["\\]|\\x[0-9a-f]{2})*"|(?:[^ "\\\x00-\x1f\x7f]|\\x[0-9a-f]{2})+/;
my $time = qr/\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d/;

# (level, event, keys...) of a line in either form; nothing when it is no line of a log.
sub parse
{
	my ($line) = @_;

	return parse_json($line) if $line =~ /\A\{/;
	$line =~ /\A(?:$time )?(error|warn|info|debug) [a-z]\w*(?: s=[0-9a-f]{6,8}(?: t=\d+)?)? ([a-z_]+)((?: [a-z_0-9]+=$value)*)\z/
	    or return;
	my ($level, $event, $pairs) = ($1, $2, $3);
	return ($level, $event, $pairs =~ / ([a-z_0-9]+)=$value/g);
}

sub parse_json
{
	my ($line) = @_;
	my $json = eval { JSON::PP->new->utf8->decode($line) } or return;

	my @head = qw(time level who session txn event);
	return unless ref $json eq 'HASH' && $json->{time} =~ /\A$time\z/ && defined $json->{who};
	return ($json->{level}, $json->{event}, grep { my $key = $_; !grep { $_ eq $key } @head } keys %$json);
}

# What is wrong with a line of a log.
sub fault
{
	my ($line) = @_;
	my ($level, $name, @keys) = parse($line) or return 'is no line of a log';
	my $event = table->{$name} or return "has an event that is not in the table: $name";

	return "has a level that the table does not give to $name: $level" unless $event->{levels}{$level};
	my %seen;
	for my $key (@keys) {
		return "has a key that the table does not give to $name: $key" unless $event->{keys}{$key};
		return "has a key twice: $key" if $seen{$key}++;
	}
	return;
}

1;
