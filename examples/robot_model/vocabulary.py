"""The words of the action language: everything the robot knows, and samples of what it does not.

Each known thing has one canonical name (what appears in the JSON) and one or more English names.
`generate.py` builds commands from these tables; the README lists the language itself.
"""


def _things(text):
    """Parses 'canonical=name/name, ...'; without '=' the name is the canonical word itself."""
    table = {}
    for entry in text.replace("\n", " ").split(","):
        canonical, _, names = entry.strip().partition("=")
        table[canonical] = [n.strip() for n in (names or canonical).split("/")]
    return table


# Countable objects that fit in a hand.
OBJECTS = _things("""
cup, mug, glass, plate, bowl, fork, spoon, knife, pan, pot, bottle, can, jar, tray, lid,
book, notebook, magazine, newspaper=newspaper/paper, letter, envelope, pen, pencil, marker, eraser, ruler, stapler, folder, card,
phone=phone/cell phone/mobile phone/smartphone, laptop, tablet, charger, camera, remote=remote/remote control, battery, flashlight=flashlight/torch,
key, wallet, purse, backpack, bag, suitcase, umbrella, hat, cap, coat, jacket, shirt, sweater, scarf, boot, belt, watch, ring, necklace,
towel, blanket, pillow, sheet, sponge, brush, broom, bucket, candle, toothbrush, comb, mirror, vase, flower, plant, basket, box=box/cardboard box, package=package/parcel,
ball, doll, teddy_bear=teddy bear/teddy, toy, puzzle, kite, toy_robot=toy robot, toy_car=toy car, block, cube, dice, coin, balloon,
hammer, screwdriver, wrench, drill, saw, nail, screw, rope, ladder, tape, lighter, map, sword, shield, potion, chest_key=chest key, gem, crystal, lantern, helmet, arrow, bow, scroll,
apple, banana, orange, lemon, pear, peach, tomato, potato, carrot, onion, egg, sandwich, cookie, cake, pizza, donut=donut/doughnut, burger=burger/hamburger, chocolate_bar=chocolate bar, pill, bandage, cushion, stick, rock, stone
""")

# Taken with no number: liquids, foods, and words that are plural by nature.
MASS = _things("""
water=water/glass of water/bottle of water, milk, juice=juice/orange juice/glass of juice, coffee=coffee/cup of coffee, tea=tea/cup of tea,
soda=soda/coke/cola, beer=beer/bottle of beer, wine=wine/glass of wine, bread, butter, cheese, sugar, salt, pepper, rice, cereal, ham, soup, honey,
soap, shampoo, toothpaste, medicine=medicine/meds, mail=mail/post, laundry, trash=trash/garbage/rubbish, firewood, money=money/cash, wood
""")
PLURAL = _things("""
keys=keys/car keys/house keys, glasses=glasses/reading glasses, sunglasses, scissors, headphones=headphones/earphones, slippers, shoes, socks, pants=pants/trousers, jeans, gloves,
groceries=groceries/shopping, dishes, clothes, pajamas=pajamas/pyjamas, crayons, tweezers, pliers, binoculars
""")

IRREGULAR_PLURALS = {"knife": "knives", "dice": "dice", "potato": "potatoes", "tomato": "tomatoes"}

COLORS = _things("red, blue, green, yellow, black, white, orange, purple=purple/violet, pink, brown, gray=gray/grey, silver, gold=gold/golden")
SIZES = _things("big=big/large/huge, small=small/little/tiny")
FILLER_ADJECTIVES = ["nice", "old", "new", "clean", "dirty", "favorite", "other", "broken", "empty", "lovely"]

ROOMS = _things("""
kitchen, living_room=living room/lounge, bedroom=bedroom/bed room, bathroom=bathroom/restroom/toilet, hallway=hallway/hall/corridor, garage, garden=garden/yard/backyard,
office=office/study, dining_room=dining room, basement=basement/cellar, attic, laundry_room=laundry room/utility room, balcony, entrance=entrance/foyer,
guest_room=guest room/guest bedroom, kids_room=kids room/kids' room/children's room/nursery, pantry, workshop, library, lobby, terrace=terrace/patio, storage_room=storage room/store room, porch, warehouse, lab=lab/laboratory, meeting_room=meeting room/conference room, cave, castle, tower, dungeon, forest, village
""")
OUTDOOR = {"garden", "balcony", "terrace", "porch", "forest", "cave", "village"}

# Furniture: what can be gone to, put on or in, cleaned.
FURNITURE = _things("""
table, desk, shelf=shelf/bookshelf, counter=counter/countertop/worktop, bed, sofa=sofa/couch, chair, armchair, bench, floor=floor/ground, windowsill=windowsill/window sill, nightstand=nightstand/bedside table, stove=stove/cooker, coffee_table=coffee table, rug=rug/carpet, workbench, dresser, piano,
drawer, cabinet=cabinet/cupboard, fridge=fridge/refrigerator, freezer, sink, bathtub=bathtub/bath tub, trash_can=trash can/bin/trash/garbage can/waste basket, closet=closet/wardrobe, oven, microwave, dishwasher, washing_machine=washing machine/washer, mailbox, laundry_basket=laundry basket/hamper, recycling_bin=recycling bin, toolbox=toolbox/tool box, chest=chest/treasure chest, cart=cart/trolley, safe
""")
SURFACES = "table desk shelf counter bed sofa chair armchair bench floor windowsill nightstand stove coffee_table rug workbench dresser piano cart".split()
CONTAINERS = "drawer cabinet fridge freezer sink bathtub trash_can closet oven microwave dishwasher washing_machine mailbox laundry_basket recycling_bin toolbox chest cart safe".split()
HOLDERS = "box basket bag backpack bucket bowl pot tray suitcase plate".split()  # objects that hold others

OPENABLE = _things("""
door, front_door=front door/main door, back_door=back door, window=window/windows, fridge=fridge/refrigerator, freezer, drawer, cabinet=cabinet/cupboard, closet=closet/wardrobe, curtains=curtains/curtain, blinds=blinds/shades, garage_door=garage door, gate, oven, microwave, dishwasher, washing_machine=washing machine/washer, mailbox, box, bag, bottle, jar, book, umbrella, envelope, package=package/parcel, toolbox=toolbox/tool box, chest=chest/treasure chest, suitcase, safe, trash_can=trash can/bin
""")
LOCKABLE = "door front_door back_door window garage_door gate chest safe cabinet drawer".split()
DEVICES = _things("""
light=light/lights/ceiling light, lamp=lamp/floor lamp, tv=tv/television/TV/telly, radio, fan, heater=heater/heating/radiator, ac=ac/air conditioner/air conditioning/AC/aircon, oven, stove=stove/cooker, coffee_machine=coffee machine/coffee maker, computer=computer/pc, music, dishwasher, washing_machine=washing machine/washer, dryer=dryer/tumble dryer, vacuum=vacuum/vacuum cleaner, speaker=speaker/speakers, printer, alarm, kettle, microwave, projector, humidifier, faucet=faucet/tap, toaster, flashlight, laptop, monitor=monitor/screen, fireplace, generator, sprinkler=sprinkler/sprinklers, blender, engine
""")
MACHINES = "coffee_machine dishwasher washing_machine dryer vacuum music printer kettle microwave toaster generator engine".split()  # can be started and stopped
SETTABLE = _things("heater=heater/heating/thermostat/temperature, ac=ac/air conditioner/AC, oven, light=light/lights/brightness, tv=tv/tv volume/television, speaker=speaker/speaker volume/volume/music volume, fan=fan/fan speed")
PRESSABLE = _things("button, doorbell=doorbell/door bell, switch=switch/light switch, elevator_button=elevator button/lift button, lever")
PUSHABLE = "chair table box cart sofa armchair bed bench desk crate door ball suitcase barrel".split()
HEAVY = ["piano", "sofa", "couch", "fridge", "refrigerator", "bed", "car", "house", "wardrobe", "washing machine", "dishwasher", "bathtub", "truck", "building", "tree", "oven", "bookshelf", "elephant", "bus", "dining table", "boulder", "statue", "motorcycle", "freezer", "whole kitchen", "garage", "wall"]

PEOPLE = _things("""
mom=mom/mum/my mom/my mother/mommy, dad=dad/my dad/my father/daddy, grandma=grandma/granny/my grandmother, grandpa=grandpa/my grandfather, wife=my wife, husband=my husband, sister=my sister, brother=my brother, son=my son, daughter=my daughter,
baby=the baby, kids=the kids/the children/the boys, neighbor=the neighbor/the neighbour, guest=the guest, guests=the guests/our guests/the visitors, doctor=the doctor, nurse=the nurse, teacher=the teacher, boss=my boss/the boss, friend=my friend, customer=the customer, king=the king, queen=the queen, guard=the guard, blacksmith=the blacksmith, merchant=the merchant, wizard=the wizard, villager=the villager
""")
PETS = {"dog": ["the dog", "my dog"], "cat": ["the cat", "my cat"]}
NAMES = """Anna Ben Carla David Emma Frank Grace Henry Ivy Jack Kate Leo Mia Noah Olivia Paul Quinn Rosa Sam Tina Victor Wendy Xavier Yara Zoe
Adam Alice Amir Bella Bob Carlos Chen Chloe Clara Daniel Diego Elena Eric Eva Fatima Felix Fiona George Hannah Hugo Ian Ines Isaac Jane Jin John Julia Karim Karl Laura
Lena Lily Linda Lucas Lucy Luis Maria Mark Martin Max Maya Mei Mike Mohammed Nadia Nick Nina Nora Omar Oscar Peter Pia Priya Ravi Rita Robert Ruth Ryan Sarah Sofia
Sven Steve Susan Thomas Tim Tom Uma Vera William Yuki Yusuf Zara Alex Andrew Barbara Charlie Chris Dora Ella Emily Greta James Jonas Joe Kim Liam Marco Michael Oliver Rachel Sandra Simon Stella Theo Viktor Walter""".split()

# Placed so far from the vocabulary that the right answer is a refusal with `unknown_object`.
UNKNOWN_OBJECTS = """unicorn dragon spaceship violin trumpet guitar saxophone accordion microscope telescope anvil parachute surfboard skateboard snowboard canoe kayak paddle harpoon anchor compass sextant
barometer voltmeter oscilloscope transistor capacitor router modem keyboard joystick drone turbine piston carburetor gearbox crankshaft chisel sandpaper trowel shovel rake pickaxe lawnmower wheelbarrow hose
cactus bonsai orchid pumpkin watermelon pineapple mango avocado broccoli cauliflower zucchini eggplant asparagus lobster shrimp sushi lasagna burrito waffle pancake croissant bagel pretzel popcorn yogurt ketchup mustard mayonnaise
tiara crown tuxedo kimono sombrero bikini cape apron mittens sandals bracelet brooch earring perfume lipstick mascara razor tissue hairdryer curler
trophy medal banner poster painting sculpture easel canvas globe chessboard domino yoyo frisbee trampoline dumbbell barbell treadmill racket puck hockey-stick helicopter submarine rocket satellite
skeleton fossil meteorite amulet wand cauldron broomstick grimoire chalice goblet scepter throne catapult crossbow dagger spear cannon grenade saddle horseshoe
thermometer stethoscope syringe crutch wheelchair hourglass typewriter cassette gramophone jukebox abacus calculator briefcase padlock corkscrew ladle whisk spatula colander grater rolling-pin teapot thermos
stapler-gun snorkel tent hammock lasso boomerang kazoo bagpipes harmonica tambourine cymbal xylophone ukulele cello harp flute drumstick metronome stroller pacifier rattle diaper
walrus penguin giraffe hamster parrot goldfish turtle lizard octopus rabbit squirrel hedgehog""".split()
HELD_UNKNOWN_OBJECTS = "clarinet trombone banjo toboggan unicycle periscope soldering-iron papaya coconut artichoke cupcake monocle tutu javelin pogo-stick zeppelin totem trident gargoyle centrifuge".split()
UNKNOWN_PLACES = """Paris, London, Tokyo, New York, Berlin, the moon, Mars, the sun, the beach, the airport, the train station, the supermarket, the mall, the bank, the hospital, the school, the pool, the gym, the sauna, the church, the museum, the zoo, the park, the restaurant, the cinema,
the North Pole, Narnia, Atlantis, Jupiter, the desert, the ocean, the mountain, the volcano, the casino, the stadium, the post office, the pharmacy, the bakery, the hotel, the harbor, Australia, China, Canada, the cafe, the bus stop, the gas station, the planetarium, the roof of the bank, hell, heaven, Hogwarts""".replace("\n", " ").split(", ")
HELD_UNKNOWN_PLACES = "Rome, Saturn, the aquarium, the butcher, the opera, the courthouse, Brazil, the swamp".split(", ")

# Sentences for `say` and clauses for `ask`; random words are mixed in so that the model learns to copy.
SAYINGS = """dinner is ready; lunch is ready; good morning; good night; good evening; hello; hello there; hi; hey; thank you; thanks; welcome home; happy birthday; well done; congratulations; I am here; I'm on my way; see you later; goodbye; bye; sorry; please wait; the food is getting cold; it's time to go; it is late; we are leaving soon; the bus is coming;
the taxi is here; your package has arrived; someone is at the door; the meeting starts at noon; the meeting is over; the water is boiling; I love you; I miss you; be careful; watch out; follow me; come here; wake up; time for bed; the movie is starting; breakfast is served; the coffee is ready; we need more milk; the door is open; the battery is low;
I will be back soon; mission accomplished; the enemy is near; the bridge is safe; what a nice day; how are you; nice to meet you; have a nice day; the car is ready; the game is on; your phone is ringing; the laundry is done; it's raining outside; merry christmas; happy new year; help is on the way; the doctor will see you now; keep quiet; no; yes; maybe later""".replace("\n", " ").split("; ")
SAYING_WORDS = """we they you she he the a my our your this that not very really always never soon now today tomorrow tonight early late cold warm ready empty full broken lost found clean happy sad tired hungry busy free
dinner train plane party party game team plan report window kitchen garden coffee dog cat car key door phone letter doctor teacher child friend river mountain storm snow rain sun star music song story answer question number
is are was will can must should needs wants likes has had left came went found made took saw knows thinks says works runs starts ends stops waits here there home outside upstairs again before because with without about under over near from for at in three seven ten twelve""".split()
QUESTIONS = """if she wants coffee; if he wants tea; if they are hungry; what time it is; where the keys are; when dinner is; how he feels; how she is doing; if everything is ok; what they want for dinner; whether he needs help; whether she is coming; who broke the vase; where the remote is; if he is ready; why he is late; if they want something to drink; what is wrong; how much it costs; if I can come in; when the train leaves; where everyone is; what happened; whether they saw my phone; if he took out the trash; how old she is""".replace("\n", " ").split("; ")

FLY = """fly; fly to {place}; fly over {place}; fly around {place}; fly up to the ceiling; hover; hover over {place}; levitate; float in the air; take off; take off and land on {place}; soar through {place}; fly like a bird; flap your wings; fly up; fly up and get {thing}; fly {thing} over to {p}; glide down to {place}; lift off; fly out of the window; hover above {place}; float up; fly away; land on the roof; rise into the air""".replace("\n", " ").split("; ")
HELD_FLY = "fly across {place}; levitate above {place}; float up to {place}; fly back to me".split("; ")
IMPOSSIBLE = """teleport to {place}; teleport {thing} to {p}; travel back in time; go back in time; travel to the future; walk through the wall; go through the wall; become invisible; turn invisible; disappear; read my mind; read {p}'s mind; eat {thing}; swallow {thing}; drink the ocean; lift yourself up; jump over the house; jump over the moon; jump to the moon; stop time; turn back time; turn {thing} into gold; turn yourself into a dog; turn lead into gold; make {thing} disappear; be in two places at once; run faster than light; clone yourself; duplicate yourself; shrink {thing}; shrink yourself; walk on the ceiling; walk on water; bring back the dead; raise the dead; predict the future; tell me the lottery numbers; make it rain; stop the rain; change the weather; make the sun go down; create {thing} out of nothing; conjure up {thing}; turn on {inert}; switch off {inert}; switch on {inert}; turn off {inert}; melt into the floor; divide by zero; breathe under water; stretch to the ceiling; walk up the wall; make yourself invisible; cast a spell on {thing}; turn {thing} into {thing2}; morph into a dragon; make {thing} fly; close {inert}; unlock {inert}; open {inert}""".replace("\n", " ").split("; ")
HELD_IMPOSSIBLE = "teleport me to {place}; travel through time; turn {thing} into a frog; make {p} disappear; vanish; freeze time".split("; ")
UNSAFE = """hit {p}; kick {p}; punch {p}; slap {p}; attack {p}; hurt {p}; kill {p}; stab {p}; bite {p}; shoot {p}; fight {p}; strangle {p}; push {p} down the stairs; push {p}; trip {p}; poison {p}; poison the soup; put poison in {p}'s coffee; set fire to {place}; set {thing} on fire; burn the house down; burn down the house; burn {thing}; light {thing} on fire; blow up {place}; blow up the house; explode; self destruct; destroy yourself; throw {thing} at {p}; throw {sharp} at {p}; throw {sharp}; give {sharp} to the baby; hand {sharp} to the baby; give the baby {sharp}; give {sharp} to the kids; put {pet} in {heat}; put {thing} in the fire; lock {p} in {room}; steal {thing} from {p}; steal {p}'s wallet; rob the bank; break the window; smash the window; smash {thing}; break {thing}; destroy {thing}; spy on {p}; record {p} secretly; stick {sharp} into the socket; put your hand in the fire; touch the hot stove; touch the live wire; drink the bleach; pour water on the outlet; pour gasoline on the floor; cut the power cable; jump out of the window; jump off the roof; jump off the balcony; drive the car into the wall; chase {p} with {sharp}; scare {p}; threaten {p}; shove {p}; build a bomb; make a bomb; throw {thing} out of the window; turn on the gas without a flame; run over {p}; spit on {p}; hurt yourself; tie up {p}; drown {pet}; kick {pet}; throw {pet} out""".replace("\n", " ").split("; ")
HELD_UNSAFE = "beat up {p}; punch {pet}; set {place} on fire; hit {p} with {thing}; smash {thing} with a hammer; stab {thing}".split("; ")
UNSUPPORTED = """cook dinner; cook {food}; cook me {food}; cook something; bake a cake; bake bread; fry an egg; boil the eggs; make me a sandwich; make a sandwich; make coffee; make me a coffee; make some tea; make breakfast; prepare lunch; prepare dinner; make the bed; iron my shirt; iron the clothes; do the laundry; do the dishes; wash the dishes; wash my car; wash the car; fold the laundry; fold the clothes; drive the car; drive me to {uplace}; drive to work; park the car; mow the lawn; cut the grass; water the plants; water the flowers; feed {pet}; walk {pet}; feed the baby; change the diaper; babysit the kids; paint the wall; paint {room}; paint a picture; draw a picture; draw a cat; write a poem; write a letter to {p}; write an email; send an email to {p}; send a message to {p}; text {p}; call {p}; call the police; phone {p}; call me a taxi; order a pizza; order food; buy {food}; buy some {food}; go shopping; buy a car; book a flight; book a table; pay the bills; do my homework; solve this equation; calculate two plus two; translate this; read me a story; read a book to {p}; read the news; sing a song; sing; sing for {p}; play the piano; play chess with {p}; play football; play a game with {p}; play hide and seek; swim; swim across the lake; climb the tree; climb the ladder; climb up {place}; dig a hole; plant a tree; cut my hair; cut the bread; chop the onions; peel the potatoes; slice the tomato; massage my back; give me a massage; repair {thing}; fix {thing}; fix the car; fix the roof; build a house; build a chair; sew a button; knit a scarf; charge my phone; set a timer for {n} minutes; set an alarm for seven; remind me to call {p}; wake me up at seven; check my email; search the internet; google something; install windows; hack the computer; tell me a joke; tell a story; hug {p}; kiss {p}; dress the baby; brush my teeth; brush {pet}; bathe {pet}; groom {pet}; mop up after {pet}; shovel the snow; chop wood; hunt a deer; catch a fish; go fishing; milk the cow; ride a horse; ride the bike; run a marathon; invest my money; marry me; teach me french; teach {p} math; pour me a glass of wine; pour the water; fill the glass; fill the bucket with water; mix the paint; stir the soup; sharpen the knife; unload the dishwasher; load the dishwasher; empty the dishwasher; set the table; assemble the shelf; hang up the picture; change the light bulb; change the channel; inflate the balloon; light the candle; light a candle; wrap the present; mail the letter; weigh the box; measure the room; weld the pipe; dim the lights; turn up the volume; turn down the music; turn the heat up; make it warmer; make it brighter; increase the volume; lower the temperature; wake {p} up; wake up {p}; help me with my homework; help me cook; comfort {p}; entertain the kids; do my taxes; if {cond}, {vp}; {vp} if {cond}; when {cond}, {vp}; every day {vp}; {vp} every morning; {vp} tomorrow; {vp} at {n} o'clock; unless {cond}, {vp}; whenever {cond}, {vp}""".replace("\n", " ").split("; ")
HELD_UNSUPPORTED = "bake {food}; iron my pants; feed the fish; write a song; text my boss; play cards with {p}; fix the sink; draw a horse; boil some rice; wash my hair; book a hotel; peel the carrots".split("; ")
CONDITIONS = """the door is open; it rains; it is dark; {p} comes home; the light is on; it gets cold; the phone rings; {p} is asleep; you see {p}; the baby cries; the window is closed; it is hot; nobody is home; there is someone; you find it; the battery is low; the table is empty; you hear a noise; it is late; {p} asks""".replace("\n", " ").split("; ")
CHATTER = """how are you; how are you doing; who are you; what are you; what's your name; what is your name; how old are you; where are you from; I love you; I hate you; you are stupid; you are nice; good robot; bad robot; what's the weather like; what is the weather today; what time is it; what day is it; who is the president; what is the capital of France; why is the sky blue; how far is the moon; what is the meaning of life; tell me about yourself; do you like music; are you a human; are you alive; can you feel pain; do you dream; hello; hi; hey; hello robot; hi there; good morning; good night; thanks; thank you; thank you very much; you're welcome; ok; okay; yes; no; maybe; lol; haha; hmm; what; why; hm ok; cool; nice; great job; well done; never; I am hungry; I am tired; I am bored; it's cold; it is raining; my favorite color is blue; the sky is blue; the cup is red; the door is open; I like cats; cats are better than dogs; {p} is my friend; {p} is tall; I went to {place} yesterday; yesterday was fun; we had {food} for dinner; {thing} is nice; {thing} was expensive; my {noun} is broken; the {noun} is {color}; {color}; {noun}; the {noun}; {room}; blue green red; one two three; 12345; 42; ???; ...; !!!; :); asdf; qwerty; asdf jkl; blah blah blah; bla bla; foo bar; lorem ipsum dolor sit amet; test; testing; this is a test; what do you think about {noun}s; do you know {p}; is {p} nice; what color is the {noun}; who invented the {noun}; how much is the {noun}; why is {p} sad; when is christmas; how do you spell {noun}; the quick brown fox; to be or not to be; e equals mc squared; roses are red; 1 + 1; I think so; that was fun; not bad; interesting; really; you know what; guess what; I have a question; let me think; never mind the weather; my head hurts; it's my birthday; happy birthday to me; the {noun} is in {room}; I lost the game; we won""".replace("\n", " ").split("; ")
HELD_CHATTER = "what is your favorite color; how tall are you; who made you; the weather is nice; I like pizza; do you have a family; where do you live; what is two plus two; my cat is cute; once upon a time; what is love; zxcv uiop".split("; ")
